//! A spinner, or a bar, for work that takes longer than a second, where somebody is there to see it.

use std::io::IsTerminal;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::args::Common;

/// Shows itself on stderr after a second and goes when dropped.
pub struct Progress {
    bar: ProgressBar,
    thread: Option<(Sender<()>, JoinHandle<()>)>,
}

impl Progress {
    /// Starts the clock for `work`, a few words.
    pub fn start(work: &'static str, common: &Common) -> Self {
        let spinner = ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
        Self::show(work, spinner.with_style(ProgressStyle::default_spinner()), common)
    }

    /// Starts the clock for `work` on so many things, of which [`advance`](Self::advance) counts those that are done.
    pub fn count(work: &'static str, things: u64, common: &Common) -> Self {
        let bar = ProgressBar::with_draw_target(Some(things), ProgressDrawTarget::hidden());
        // The template is a good one; if it were none, the bar would look as they do by default.
        let template = "{msg} {wide_bar} {pos}/{len} {eta}";
        let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        Self::show(work, bar.with_style(style), common)
    }

    /// One thing more is done.
    pub fn advance(&self) {
        self.bar.inc(1);
    }

    fn show(work: &'static str, bar: ProgressBar, common: &Common) -> Self {
        if common.quiet || !std::io::stderr().is_terminal() {
            return Self { bar, thread: None };
        }
        let (done, wait) = channel::<()>();
        let shown = bar.clone().with_message(work);
        let thread = std::thread::spawn(move || {
            if wait.recv_timeout(Duration::from_secs(1)) != Err(RecvTimeoutError::Timeout) {
                return;
            }
            shown.set_draw_target(ProgressDrawTarget::stderr());
            shown.enable_steady_tick(Duration::from_millis(100));
            // The sender is dropped when the work is done.
            let _ = wait.recv();
            shown.finish_and_clear();
        });
        Self { bar, thread: Some((done, thread)) }
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
