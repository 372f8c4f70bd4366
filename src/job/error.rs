use super::text;

/// Why a job failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobError {
    /// A stable word for programs.
    pub code: ErrorCode,
    /// A sentence for a person. Holds no traceback and no inputs.
    pub message: String,
}

/// The stable words for why a job failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorCode {
    /// A node raised an error.
    ExecutionError,
    /// The server was restarted, or has forgotten the prompt.
    PromptLost,
    /// A producer that is not ComfyUI says so.
    Reported,
}

impl ErrorCode {
    const ALL: [Self; 3] = [Self::ExecutionError, Self::PromptLost, Self::Reported];

    /// The code that a word names.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|code| code.as_str() == word)
    }

    /// The word in messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ExecutionError => "execution_error",
            Self::PromptLost => "prompt_lost",
            Self::Reported => "reported",
        }
    }
}

impl JobError {
    /// A node raised an error: `node` is its class and id, `raised` what it said, `exception`
    /// the kind of error, which stands in where it said nothing.
    pub fn execution(node: Option<(&str, &str)>, raised: &str, exception: &str) -> Self {
        let said = if raised.trim().is_empty() {
            exception
        } else {
            raised
        };
        Self {
            code: ErrorCode::ExecutionError,
            message: text::failure(node, said),
        }
    }

    /// The server knows the prompt no longer.
    pub fn lost() -> Self {
        Self {
            code: ErrorCode::PromptLost,
            message: "ComfyUI no longer knows this prompt (it was restarted, or its history was cleared); submit it again".to_owned(),
        }
    }

    /// The history says that the prompt is over, but neither how nor with which outputs.
    /// Only servers of 2023 leave such entries, for prompts in which a node raised.
    pub fn without_outputs() -> Self {
        Self {
            code: ErrorCode::ExecutionError,
            message: "the prompt ended without outputs; see the log of ComfyUI".to_owned(),
        }
    }

    /// A producer says that its job failed.
    pub fn reported(error: Option<&str>) -> Self {
        Self {
            code: ErrorCode::Reported,
            message: text::failure(None, error.unwrap_or("the producer reported a failure")),
        }
    }
}
