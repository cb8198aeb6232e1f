//! A spinner for work that takes longer than a second, where somebody is there to see it.

use std::io::IsTerminal;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use indicatif::ProgressBar;

use crate::args::Common;

/// Shows itself on stderr after a second and goes when dropped.
pub struct Progress {
    thread: Option<(Sender<()>, JoinHandle<()>)>,
}

impl Progress {
    /// Starts the clock for `work`, a few words.
    pub fn start(work: &'static str, common: &Common) -> Self {
        if common.quiet || !std::io::stderr().is_terminal() {
            return Self { thread: None };
        }
        let (done, wait) = channel::<()>();
        let thread = std::thread::spawn(move || {
            if wait.recv_timeout(Duration::from_secs(1)) != Err(RecvTimeoutError::Timeout) {
                return;
            }
            let spinner = ProgressBar::new_spinner().with_message(work);
            spinner.enable_steady_tick(Duration::from_millis(100));
            // The sender is dropped when the work is done.
            let _ = wait.recv();
            spinner.finish_and_clear();
        });
        Self { thread: Some((done, thread)) }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some((done, thread)) = self.thread.take() {
            drop(done);
            // A panic in the spinner must not become one of the command.
            let _ = thread.join();
        }
    }
}
