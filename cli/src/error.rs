//! Errors of the command: one line on stderr, exit status 2 for bad usage or input and 1 for anything else.

use std::process::ExitCode;

use crate::files;

/// Why a command stopped.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file could not be read or written.
    #[error(transparent)]
    File(#[from] files::Error),

    /// The library refused the input or failed on the device.
    #[error(transparent)]
    Gpu(#[from] seghead::Error),

    /// As [`Gpu`](Self::Gpu), for what is in this file.
    #[error("{path}: {source}")]
    Content {
        /// The file that holds the input.
        path: String,
        /// What the library says.
        source: seghead::Error,
    },

    /// As [`Gpu`](Self::Gpu), for an operator that was to be measured.
    #[error("{what}: {source}")]
    Measured {
        /// The operator and the shape of its logits.
        what: String,
        /// What the library says.
        source: seghead::Error,
    },

    /// Options that do not go together or with the files.
    #[error("{0}")]
    Usage(String),

    /// The adapter computes something wrong.
    #[error("{0}")]
    Wrong(String),

    /// Standard output is closed or full.
    #[error("standard output: {0}")]
    Stdout(#[from] std::io::Error),
}

impl Error {
    /// 2 for bad usage or input, 1 for anything else.
    pub fn exit_code(&self) -> u8 {
        use seghead::Error::{Abandoned, Device, Map, MapRange, NoAdapter, OutOfMemory, Poll, RequestDevice};
        match self {
            Self::File(error) => error.exit_code(),
            Self::Gpu(error) | Self::Content { source: error, .. } | Self::Measured { source: error, .. } => {
                match error {
                    NoAdapter { .. } | RequestDevice { .. } | OutOfMemory { .. } => 1,
                    Device(_) | Map(_) | MapRange(_) | Abandoned | Poll(_) => 1,
                    _ => 2,
                }
            }
            Self::Usage(_) => 2,
            Self::Wrong(_) | Self::Stdout(_) => 1,
        }
    }

    /// Prints the line and returns the exit status.
    pub fn report(&self) -> ExitCode {
        if matches!(self, Self::Stdout(error) if error.kind() == std::io::ErrorKind::BrokenPipe) {
            // Whoever read has read enough.
            return ExitCode::SUCCESS;
        }
        // A driver's message, or a path, may hold line breaks; an error is one line.
        eprintln!("seghead: {}", self.to_string().replace(['\n', '\r'], " "));
        ExitCode::from(self.exit_code())
    }
}

/// Prints what is wrong with the arguments in one line, or the help or version where those were asked for.
pub fn report_usage(error: &clap::Error) -> ExitCode {
    if !error.use_stderr() {
        // A closed pipe, as of `seghead --help | head`, is no failure.
        let _ = error.print();
        return ExitCode::SUCCESS;
    }
    let line = first_paragraph(error);
    if line.starts_with("Usage:")
        || line.is_empty()
        || error.kind() == clap::error::ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
    {
        eprintln!("seghead: expected a command: see --help");
    } else {
        eprintln!("seghead: {line}: see --help");
    }
    ExitCode::from(2)
}

/// What is wrong with the arguments, and what would be right, in one line. Usage and tips follow it.
pub fn first_paragraph(error: &clap::Error) -> String {
    let text = error.render().to_string();
    let paragraph: Vec<_> = text.lines().map(str::trim).take_while(|line| !line.is_empty()).collect();
    let line = paragraph.join(" ");
    line.strip_prefix("error: ").map_or_else(|| line.clone(), str::to_owned)
}
