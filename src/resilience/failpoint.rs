//! Named places where a test can kill the process. Not in release builds.

/// Where the process can be made to die; each is an answer to "what if it dies right here?".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failpoint {
    /// State is being rebuilt from the landing tables.
    Bootstrap,
    /// The epoch is complete; nothing of it is written.
    BeforeCommit,
    /// The epoch is in Postgres; the broker does not know yet.
    BetweenCommitAndAck,
    /// Dead letters are published; the table does not say so yet.
    LettersPublished,
    /// A checkpoint file is about to be published.
    CheckpointPublish,
}

#[cfg(debug_assertions)]
impl Failpoint {
    fn name(self) -> &'static str {
        match self {
            Self::Bootstrap => "bootstrap",
            Self::BeforeCommit => "before_commit",
            Self::BetweenCommitAndAck => "between_commit_and_ack",
            Self::LettersPublished => "letters_published",
            Self::CheckpointPublish => "checkpoint_publish",
        }
    }
}

/// Dies here at once, as by SIGKILL, if `TIDEMARK_FAILPOINT` is `name:N` and this is the N-th pass.
#[cfg(debug_assertions)]
pub fn failpoint(point: Failpoint) {
    use std::sync::atomic::{AtomicU64, Ordering};
    static PASSES: AtomicU64 = AtomicU64::new(0);
    let Ok(wanted) = std::env::var("TIDEMARK_FAILPOINT") else { return };
    let Some((name, pass)) = wanted.split_once(':') else { return };
    if name != point.name() {
        return;
    }
    let passed = PASSES.fetch_add(1, Ordering::Relaxed) + 1;
    if pass.parse() == Ok(passed) {
        // No destructor and no flush runs, which is the point.
        std::process::abort();
    }
}

#[cfg(not(debug_assertions))]
pub fn failpoint(_: Failpoint) {}
