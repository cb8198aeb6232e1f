//! The command `seghead`: logits in files; masks, probabilities, losses and pictures out, computed on the GPU.

mod args;
mod commands;
mod error;
mod files;
mod input;
mod progress;
mod sample;
mod summary;

use std::process::ExitCode;

use clap::Parser;

use crate::args::{Cli, Command};

fn main() -> ExitCode {
    quiet_mesa();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return error::report_usage(&error),
    };
    // Warnings of the library, such as that of a software adapter; RUST_LOG asks for more, also of wgpu.
    let level = if cli.common.quiet { "off" } else { "off,seghead=warn" };
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or(level))
        .format(|out, record| {
            use std::io::Write;
            writeln!(out, "seghead: {}", record.args())
        })
        .init();
    let result = match &cli.command {
        Command::Demo(args) => commands::demo::run(args, &cli.common),
        Command::Segment(args) => commands::segment::run(args, &cli.common),
        Command::Softmax(args) => commands::tensor::softmax(args, &cli.common),
        Command::Sigmoid(args) => commands::tensor::sigmoid(args, &cli.common),
        Command::Argmax(args) => commands::argmax::run(args, &cli.common),
        Command::Loss(args) => commands::loss::run(args, &cli.common),
        Command::Adapters => commands::adapters::run(&cli.common),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => error.report(),
    }
}

/// Without a desktop, Mesa's Vulkan layer that orders devices complains on stderr that it finds none. wgpu orders them
/// by itself.
fn quiet_mesa() {
    if std::env::var_os("XDG_RUNTIME_DIR").is_none() {
        // SAFETY: this is the first thing that `main` does, so no other thread can be reading the environment.
        unsafe { std::env::set_var("NODEVICE_SELECT", "1") };
    }
}
