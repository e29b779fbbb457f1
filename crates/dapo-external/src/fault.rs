//! Why a request fails: [`Fault`].

/// Why a request has no answers.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// No reply came in time.
    #[error("no reply within {seconds} s{hint}")]
    Timeout {
        /// The limit.
        seconds: f64,
        /// A command's last words, and what may keep its replies; otherwise empty.
        hint: String,
    },
    /// The command ended, or closed its output, before it replied.
    #[error("the command {how} before it replied")]
    Exit {
        /// How it ended, and where its last words are.
        how: String,
    },
    /// The command cannot be started.
    #[error("{program:?} cannot be started: {reason}")]
    Start {
        /// The program.
        program: String,
        /// The system's reason.
        reason: String,
    },
    /// The reply is not the JSON that was expected.
    #[error("the reply is {found}, expected {expected}")]
    Json {
        /// What was found.
        found: String,
        /// What was expected.
        expected: String,
    },
    /// The reply has more or fewer rewards than there are samples.
    #[error("the reply has {got} {what}, expected {expected}")]
    Count {
        /// The list's name.
        what: String,
        /// The list's length.
        got: usize,
        /// Samples in the request.
        expected: usize,
    },
    /// A number of the reply is too large for a 64-bit float.
    #[error("{place} is {value}, expected a finite number")]
    NotFinite {
        /// The number's place in the reply.
        place: String,
        /// The number as it is written.
        value: String,
    },
    /// The reply belongs to another request.
    #[error("the reply's id is {got}, expected {expected}")]
    Id {
        /// The id found.
        got: String,
        /// The request's id.
        expected: u64,
    },
    /// The other side says that it failed.
    #[error("it reports: {message}")]
    Reported {
        /// The other side's message.
        message: String,
    },
    /// A judge's answer is no judgement.
    #[error("the judge says {found}, expected {expected}")]
    Judgement {
        /// What it says, or the end of it.
        found: String,
        /// What was expected.
        expected: String,
    },
    /// The server cannot be reached, or the connection broke.
    #[error("{server}: {reason}")]
    Connection {
        /// The server's address without secrets.
        server: String,
        /// What happened.
        reason: String,
    },
    /// The server refuses.
    #[error("{server}: HTTP {status}{said}")]
    Status {
        /// The server's address without secrets.
        server: String,
        /// The status code.
        status: u16,
        /// The beginning of the answer.
        said: String,
    },
}

impl Fault {
    /// The name under which the fault is counted.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Timeout { .. } => "timeout",
            Self::Exit { .. } => "exit",
            Self::Start { .. } => "start",
            Self::Json { .. } => "json",
            Self::Count { .. } => "count",
            Self::NotFinite { .. } => "not-finite",
            Self::Id { .. } => "id",
            Self::Reported { .. } => "reported",
            Self::Judgement { .. } => "judgement",
            Self::Connection { .. } => "connection",
            Self::Status { .. } => "status",
        }
    }

    /// Whether no later request can do better, so that the run must stop.
    pub fn is_final(&self) -> bool {
        matches!(self, Self::Start { .. })
    }
}
