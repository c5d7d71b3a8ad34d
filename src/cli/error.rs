//! Why a command failed.

use std::io;

use lanmesh_ipam::{AllocError, PlanError};
use serde::Serialize;

use crate::agent::{AgentError, ProcessError};
use crate::api::client::ClientError;
use crate::api::{ApiError, ErrorKind};
use crate::config::ConfigError;
use crate::errno::InWords;
use crate::privileges::PrivilegeError;

/// Why a command failed: what is wrong, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// The agent did not do it.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The agent cannot be configured so.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The agent may not do what it has to.
    #[error(transparent)]
    Privileges(#[from] PrivilegeError),
    /// The agent could not run.
    #[error(transparent)]
    Agent(#[from] AgentError),
    /// The WireGuard device could not run.
    #[error(transparent)]
    Device(#[from] ProcessError),
    /// The network cannot be so.
    #[error(transparent)]
    Request(#[from] ApiError),
    /// There is no such address plan.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The plan has no such address.
    #[error(transparent)]
    Address(#[from] AllocError),
    /// A file or the output cannot be used.
    #[error("{what}: {}", InWords(source))]
    Io {
        /// What was tried, and what to look at.
        what: String,
        /// What the system said.
        source: io::Error,
    },
    /// The output cannot be written as JSON.
    #[error("cannot write this as JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// The command line cannot be so.
    #[error("{0}")]
    Usage(String),
    /// What was looked at is not well, which has been printed for whoever wants JSON.
    #[error("{0}")]
    NotWell(String),
    /// Something else, said in full.
    #[error("{0}")]
    Other(String),
}

/// What `--json` prints of an error, on standard output: the same form as the agent's own answers have.
#[derive(Debug, Serialize)]
pub struct ErrorReport {
    error: Report,
}

#[derive(Debug, Serialize)]
struct Report {
    code: &'static str,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<String>,
}

impl ErrorReport {
    /// Of a command line that cannot be so.
    pub fn usage(message: impl Into<String>) -> Self {
        Self { error: Report { code: "usage", message: message.into(), hint: None, field: None } }
    }
}

impl CliError {
    /// The exit status: 1 refused or failed, 2 wrong usage, 3 not found, 4 no agent, 5 not now.
    pub fn status(&self) -> u8 {
        match self {
            Self::Usage(_) => 2,
            Self::Client(ClientError::NoAgent(_)) => 4,
            Self::Client(ClientError::Late { .. }) => 5,
            Self::Client(ClientError::Refused(error)) => match error.kind {
                ErrorKind::NotFound => 3,
                ErrorKind::Unavailable | ErrorKind::Timeout => 5,
                _ => 1,
            },
            _ => 1,
        }
    }

    /// Whether a program that asked for JSON has got one that says so.
    pub fn is_told(&self) -> bool {
        matches!(self, Self::NotWell(_))
    }

    /// The same for programs.
    pub fn report(&self) -> ErrorReport {
        let (code, message, hint, field) = match self {
            Self::Client(ClientError::Refused(error)) | Self::Request(error) => {
                (error.kind.code(), error.message.clone(), error.hint.clone(), error.field.clone())
            }
            Self::Client(ClientError::NoAgent(path)) => {
                let hint = "start it with `lanmesh agent`, or give --socket".to_owned();
                ("no_agent", format!("no agent answers at {}", path.display()), Some(hint), None)
            }
            Self::Client(ClientError::Denied { .. }) => ("forbidden", self.to_string(), None, None),
            Self::Client(ClientError::Late { .. }) => ("timeout", self.to_string(), None, None),
            Self::Client(ClientError::Broken { .. }) => ("no_answer", self.to_string(), None, None),
            Self::Usage(_) => ("usage", self.to_string(), None, None),
            _ => ("failed", self.to_string(), None, None),
        };
        ErrorReport { error: Report { code, message, hint, field } }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_has_its_errors_and_every_error_a_code() {
        let refused =
            |kind| CliError::Client(ClientError::Refused(ApiError::new(kind, "why").hint("what").at("f")));
        for (error, status, code) in [
            (refused(ErrorKind::BadRequest), 1, "bad_request"),
            (refused(ErrorKind::Conflict), 1, "conflict"),
            (refused(ErrorKind::Forbidden), 1, "forbidden"),
            (refused(ErrorKind::Internal), 1, "internal"),
            (CliError::Usage("why".to_owned()), 2, "usage"),
            (refused(ErrorKind::NotFound), 3, "not_found"),
            (CliError::Client(ClientError::NoAgent("/s".into())), 4, "no_agent"),
            (refused(ErrorKind::Unavailable), 5, "unavailable"),
            (refused(ErrorKind::Timeout), 5, "timeout"),
            (CliError::Other("why".to_owned()), 1, "failed"),
        ] {
            let report = serde_json::to_value(error.report()).expect("is JSON");
            assert_eq!((error.status(), report["error"]["code"].as_str()), (status, Some(code)), "{error}");
        }
        let report = serde_json::to_value(refused(ErrorKind::Conflict).report()).expect("is JSON");
        assert_eq!(
            report,
            serde_json::json!({"error": {"code": "conflict", "message": "why", "hint": "what", "field": "f"}})
        );
        let report = serde_json::to_value(CliError::Client(ClientError::NoAgent("/s".into())).report());
        assert!(
            report.expect("is JSON")["error"]["hint"]
                .as_str()
                .is_some_and(|hint| hint.contains("lanmesh agent"))
        );
    }
}
