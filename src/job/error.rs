use std::time::Duration;

use super::text;
use crate::wire_schema::word_schema;

/// Why a job failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobError {
    /// A stable word for programs.
    pub code: ErrorCode,
    /// A sentence for people, without traceback, inputs or folders.
    pub message: String,
}

/// The kinds of failures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorCode {
    /// A node raised an error.
    ExecutionError,
    /// The server was restarted, or no longer knows the prompt.
    PromptLost,
    /// A producer other than ComfyUI reported the failure.
    Reported,
    /// ComfyUI's validation refused the graph.
    Rejected,
    /// A producer other than ComfyUI has reported nothing for too long.
    ProducerLost,
    /// ComfyUI does not take the prompt.
    BackendError,
}

impl ErrorCode {
    const ALL: [Self; 6] = [
        Self::ExecutionError,
        Self::PromptLost,
        Self::Reported,
        Self::Rejected,
        Self::ProducerLost,
        Self::BackendError,
    ];

    /// The inverse of [`ErrorCode::as_str`].
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|code| code.as_str() == word)
    }

    /// Its word in messages and in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ExecutionError => "execution_error",
            Self::PromptLost => "prompt_lost",
            Self::Reported => "reported",
            Self::Rejected => "workflow_rejected",
            Self::ProducerLost => "producer_lost",
            Self::BackendError => "backend_error",
        }
    }
}

word_schema!(ErrorCode, "Why a job failed.");

impl JobError {
    /// The error that a node raised: `node` is its class and id, `message` the text of the exception,
    /// and `exception` its type, which is used if the text is blank.
    pub fn execution(node: Option<(&str, &str)>, message: &str, exception: &str) -> Self {
        let raised = if message.trim().is_empty() {
            exception
        } else {
            message
        };
        Self {
            code: ErrorCode::ExecutionError,
            message: text::failure(node, raised),
        }
    }

    /// ComfyUI's validation refused the graph, for this reason.
    pub fn rejected(reason: &str) -> Self {
        Self {
            code: ErrorCode::Rejected,
            message: text::failure(None, &format!("ComfyUI refuses the workflow: {reason}")),
        }
    }

    /// ComfyUI does not take the prompt, for this reason.
    pub fn not_taken(reason: &str) -> Self {
        Self {
            code: ErrorCode::BackendError,
            message: text::failure(None, reason),
        }
    }

    /// The server no longer knows the prompt.
    pub fn lost() -> Self {
        Self {
            code: ErrorCode::PromptLost,
            message: "ComfyUI no longer knows this prompt (it was restarted, or its history was cleared); submit it again".to_owned(),
        }
    }

    /// The workflow has ended two servers in a row while it ran.
    pub fn lost_twice() -> Self {
        Self {
            code: ErrorCode::PromptLost,
            message: "two ComfyUI servers in a row were lost while they ran this workflow: it is probably the cause, and is not run again; see their logs".to_owned(),
        }
    }

    /// The prompt's history entry has neither an outcome nor outputs. Only servers of 2023 leave such
    /// entries, for prompts in which a node raised an error.
    pub fn without_outputs() -> Self {
        Self {
            code: ErrorCode::ExecutionError,
            message: "the prompt ended without outputs; see the log of ComfyUI".to_owned(),
        }
    }

    /// The producer of the job has reported nothing for this time.
    pub fn producer_lost(silence: Duration) -> Self {
        let seconds = silence.as_secs();
        Self {
            code: ErrorCode::ProducerLost,
            message: format!("the producer of this job has reported nothing for {seconds} s"),
        }
    }

    /// The failure that a producer reported, with its message if it sent one.
    pub fn reported(error: Option<&str>) -> Self {
        Self {
            code: ErrorCode::Reported,
            message: text::failure(None, error.unwrap_or("the producer reported a failure")),
        }
    }
}
