//! The findings of `tidemark doctor`.

/// What an examination of the surroundings has found, before or while a processor runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    pub verdict: Verdict,
    /// One sentence.
    pub what: String,
    /// What to do, exactly; only of a problem.
    pub fix: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    Ok,
    Problem,
    /// It can't be told from here.
    Unknown,
}

impl Finding {
    pub fn ok(what: impl Into<String>) -> Self {
        Self { verdict: Verdict::Ok, what: what.into(), fix: None }
    }

    pub fn problem(what: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { verdict: Verdict::Problem, what: what.into(), fix: Some(fix.into()) }
    }

    pub fn unknown(what: impl Into<String>) -> Self {
        Self { verdict: Verdict::Unknown, what: what.into(), fix: None }
    }
}
