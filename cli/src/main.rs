//! The command `seghead`: logits in files; masks, probabilities, losses and pictures out, computed on the GPU.

mod args;
mod commands;
mod error;
mod files;
mod input;
mod lint;
mod progress;
mod sample;
mod summary;

use std::io::Write;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

use clap::Parser;

use crate::args::{Cli, Command};

fn main() -> ExitCode {
    quiet_mesa();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return error::report_usage(&error),
    };
    let notes = Notes::default();
    start_logging(&cli, &notes);
    // Temporary files must not outlive an interrupted command. Without a handler they do, which is no reason to stop.
    let _ = ctrlc::set_handler(|| {
        files::output::remove_temporary_files();
        std::process::exit(130);
    });
    let result = match &cli.command {
        Command::Demo(args) => commands::demo::run(args, &cli.common),
        Command::Segment(args) => commands::segment::run(args, &cli.common),
        Command::Softmax(args) => commands::tensor::softmax(args, &cli.common),
        Command::Sigmoid(args) => commands::tensor::sigmoid(args, &cli.common),
        Command::Argmax(args) => commands::argmax::run(args, &cli.common),
        Command::Loss(args) => commands::loss::run(args, &cli.common),
        Command::Eval(args) => commands::eval::run(args, &cli.common),
        Command::Inspect(args) => commands::inspect::run(args, &cli.common),
        Command::Adapters => commands::adapters::run(&cli.common),
        Command::Doctor(args) => commands::doctor::run(args, &cli.common),
        Command::Bench(args) => commands::bench::run(args, &cli.common),
    };
    match result {
        Ok(()) => {
            notes.print();
            ExitCode::SUCCESS
        }
        Err(error) => error.report(),
    }
}

/// What the library warns of, such as a software adapter. It is shown when a command has succeeded, for an error is one
/// line.
#[derive(Clone, Default)]
struct Notes(Arc<Mutex<Vec<u8>>>);

impl Notes {
    fn print(&self) {
        let notes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Nobody may be there to read them.
        let _ = std::io::stderr().write_all(&notes);
    }
}

impl Write for Notes {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Keeps the library's warnings; with RUST_LOG, shows at once what that asks for.
fn start_logging(cli: &Cli, notes: &Notes) {
    let level = if cli.common.quiet { "off" } else { "off,seghead=warn" };
    let mut logger = env_logger::Builder::from_env(env_logger::Env::default().default_filter_or(level));
    logger.format(|out, record| writeln!(out, "seghead: {}", record.args()));
    if std::env::var_os("RUST_LOG").is_none() {
        logger.target(env_logger::Target::Pipe(Box::new(notes.clone())));
    }
    logger.init();
}

/// Without a desktop, Mesa's Vulkan layer that orders devices complains on stderr that it finds none. wgpu orders them
/// by itself.
fn quiet_mesa() {
    if std::env::var_os("XDG_RUNTIME_DIR").is_none() {
        // SAFETY: this is the first thing that `main` does, so no other thread can be reading the environment.
        unsafe { std::env::set_var("NODEVICE_SELECT", "1") };
    }
}
