//! What follows for a job from its backend's queue and history. Pure.

use crate::comfy::QueuePosition;
use crate::job::Reason;

/// What the relay knows of an open job from elsewhere than its backend's answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(in crate::relay) struct Evidence {
    /// The job waits, as far as is known.
    pub(in crate::relay) is_queued: bool,
    /// The socket has received how the prompt ended. Its history is still to be read.
    pub(in crate::relay) is_ending: bool,
    /// The prompt's events go to our socket.
    pub(in crate::relay) own_client: bool,
    /// The socket has received that the work is done, from a server that does not send how it ended.
    pub(in crate::relay) work_done: bool,
    /// ComfyUI has not answered the submission: it may get the prompt yet.
    pub(in crate::relay) is_unanswered: bool,
    /// The backend has accepted our request to cancel the prompt.
    pub(in crate::relay) cancel_requested: bool,
    /// The end was in the history long enough ago (`event_grace`) that its events must have come.
    pub(in crate::relay) is_grace_over: bool,
    /// The prompt is missing for longer (`history_grace`) than it takes from the queue to the history.
    pub(in crate::relay) is_gap_over: bool,
}

/// What the backend answered about the job's prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(in crate::relay) struct Answers {
    pub(in crate::relay) queue: PromptAnswer<QueuePosition>,
    pub(in crate::relay) history: PromptAnswer<()>,
    /// Whether the server is the one that had the prompt, not restarted since; `None` if not asked.
    pub(in crate::relay) is_same_server: Option<bool>,
}

/// One answer about a prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(in crate::relay) enum PromptAnswer<T> {
    #[default]
    NotAsked,
    /// ComfyUI answered, but the answer cannot be read.
    Unreadable,
    /// The prompt is not there.
    Absent,
    /// The prompt is there.
    Found(T),
}

/// What is to be done about the job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::relay) enum Decision {
    /// Ask the queue, then decide again.
    FetchQueue,
    /// Ask the history, then decide again.
    FetchHistory,
    /// Ask whether the server was restarted, then decide again.
    CheckRestart,
    /// The prompt waits or runs: apply its position.
    InQueue(QueuePosition),
    /// The prompt has ended: apply its history. `events_missed` if the socket should have received its
    /// last events, and has not.
    ApplyHistory { events_missed: bool },
    /// The prompt has ended, but its last events may still be on their way: ask again soon.
    AwaitEvents,
    /// The prompt may be between the queue and the history: ask again soon.
    AwaitEntry,
    /// The prompt is gone without a trace.
    Vanished(Reason),
    /// The answers are not enough to conclude anything: wait for those of the next comparison.
    Undecided,
}

/// Decides what follows from the answers.
///
/// The queue is asked before the history, because a prompt goes from there to the history and never
/// back. If the end was received already, the history is asked first: most likely it has the prompt.
pub(in crate::relay) fn decide(evidence: &Evidence, answers: &Answers) -> Decision {
    match (answers.queue, answers.history) {
        (_, PromptAnswer::Found(())) => decide_ended(evidence),
        (PromptAnswer::Found(position), _) if !evidence.is_ending => Decision::InQueue(position),
        (PromptAnswer::NotAsked, _) if !evidence.is_ending => Decision::FetchQueue,
        (_, PromptAnswer::NotAsked) => Decision::FetchHistory,
        (PromptAnswer::NotAsked, _) => Decision::FetchQueue,
        // The server can stand still between the last event and the end of a prompt.
        (PromptAnswer::Found(_), _) => Decision::Undecided,
        (PromptAnswer::Absent, PromptAnswer::Absent) => decide_missing(evidence, answers),
        // If the history stays unreadable, the end that the socket received has to do.
        _ if evidence.is_ending => decide_missing(evidence, answers),
        _ => Decision::Undecided,
    }
}

/// The history has the prompt. The socket receives the last events a moment later than the history is
/// answered: applied first, the history would hide them.
fn decide_ended(evidence: &Evidence) -> Decision {
    let expects_events = evidence.own_client && !evidence.work_done && !evidence.is_ending;
    match (expects_events, evidence.is_grace_over) {
        (true, false) => Decision::AwaitEvents,
        (events_missed, _) => Decision::ApplyHistory { events_missed },
    }
}

/// The prompt is neither in the queue nor in the history. That can be the gap between the two; if it
/// lasts, the prompt is gone.
fn decide_missing(evidence: &Evidence, answers: &Answers) -> Decision {
    if evidence.is_unanswered {
        return Decision::Undecided;
    }
    if evidence.is_queued && evidence.cancel_requested {
        return Decision::Vanished(Reason::Deleted);
    }
    if !evidence.is_gap_over {
        return Decision::AwaitEntry;
    }
    if !evidence.is_queued {
        return Decision::Vanished(Reason::Forgotten);
    }
    match answers.is_same_server {
        None => Decision::CheckRestart,
        // A server that was not restarted forgets no prompt that waits: somebody has deleted it.
        Some(true) => Decision::Vanished(Reason::Deleted),
        Some(false) => Decision::Vanished(Reason::Forgotten),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUNS: PromptAnswer<QueuePosition> = PromptAnswer::Found(QueuePosition::Running);
    const WAITS: QueuePosition = QueuePosition::Pending { ahead: 2 };

    fn of(
        evidence: Evidence,
        queue: PromptAnswer<QueuePosition>,
        history: PromptAnswer<()>,
    ) -> Decision {
        let answers = Answers {
            queue,
            history,
            is_same_server: None,
        };
        decide(&evidence, &answers)
    }

    #[test]
    fn each_combination_of_answers_has_its_decision() {
        use Decision::{ApplyHistory, AwaitEntry, FetchHistory, FetchQueue, InQueue, Undecided};
        use PromptAnswer::{Absent, Found, NotAsked, Unreadable};

        let apply = ApplyHistory {
            events_missed: false,
        };
        // Queue, history, and the decision: for a job whose end was not received, and for one whose was.
        let table = [
            (NotAsked, NotAsked, FetchQueue, FetchHistory),
            (NotAsked, Unreadable, FetchQueue, FetchQueue),
            (NotAsked, Absent, FetchQueue, FetchQueue),
            (NotAsked, Found(()), apply, apply),
            (Unreadable, NotAsked, FetchHistory, FetchHistory),
            (Unreadable, Unreadable, Undecided, AwaitEntry),
            (Unreadable, Absent, Undecided, AwaitEntry),
            (Unreadable, Found(()), apply, apply),
            (Absent, NotAsked, FetchHistory, FetchHistory),
            (Absent, Unreadable, Undecided, AwaitEntry),
            (Absent, Absent, AwaitEntry, AwaitEntry),
            (Absent, Found(()), apply, apply),
            (
                RUNS,
                NotAsked,
                InQueue(QueuePosition::Running),
                FetchHistory,
            ),
            (RUNS, Unreadable, InQueue(QueuePosition::Running), Undecided),
            (Found(WAITS), Absent, InQueue(WAITS), Undecided),
            (Found(WAITS), Found(()), apply, apply),
        ];
        for (queue, history, open, ending) in table {
            let evidence = Evidence::default();
            assert_eq!(of(evidence, queue, history), open, "{queue:?} {history:?}");
            let evidence = Evidence {
                is_ending: true,
                ..evidence
            };
            let decision = of(evidence, queue, history);
            assert_eq!(decision, ending, "ending {queue:?} {history:?}");
        }
    }

    #[test]
    fn an_end_in_the_history_waits_for_the_events_of_our_own_prompts() {
        // Our client id, work done, end received, grace over, and whether events were missed.
        let table = [
            (false, false, false, false, Some(false)),
            (true, false, false, false, None),
            (true, false, false, true, Some(true)),
            (true, true, false, false, Some(false)),
            (true, false, true, false, Some(false)),
            (true, true, true, true, Some(false)),
        ];
        for (own_client, work_done, is_ending, is_grace_over, missed) in table {
            let evidence = Evidence {
                own_client,
                work_done,
                is_ending,
                is_grace_over,
                ..Evidence::default()
            };
            let wanted = missed.map_or(Decision::AwaitEvents, |events_missed| {
                Decision::ApplyHistory { events_missed }
            });
            let decision = of(evidence, PromptAnswer::Absent, PromptAnswer::Found(()));
            assert_eq!(decision, wanted, "{evidence:?}");
        }
    }

    #[test]
    fn a_missing_prompt_was_deleted_or_forgotten() {
        let deleted = Decision::Vanished(Reason::Deleted);
        let forgotten = Decision::Vanished(Reason::Forgotten);
        // Waits, cancelled by us, gap over, same server, and the decision.
        let table = [
            (true, false, false, None, Decision::AwaitEntry),
            (false, false, false, None, Decision::AwaitEntry),
            (false, true, false, None, Decision::AwaitEntry),
            (true, true, false, None, deleted),
            (true, true, true, Some(false), deleted),
            (false, false, true, None, forgotten),
            (false, true, true, Some(true), forgotten),
            (true, false, true, None, Decision::CheckRestart),
            (true, false, true, Some(true), deleted),
            (true, false, true, Some(false), forgotten),
        ];
        for (is_queued, cancel_requested, is_gap_over, is_same_server, wanted) in table {
            let evidence = Evidence {
                is_queued,
                cancel_requested,
                is_gap_over,
                ..Evidence::default()
            };
            let answers = Answers {
                queue: PromptAnswer::Absent,
                history: PromptAnswer::Absent,
                is_same_server,
            };
            assert_eq!(decide(&evidence, &answers), wanted, "{evidence:?}");
        }
    }
}
