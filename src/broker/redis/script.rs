//! The script that publishes a state in one step.

use redis::{Cmd, Script, cmd};

/// Keeps a state and publishes it, unless a newer one of the job is kept: what a relay publishes that does not know yet that
/// it has lost a job goes no further. A state that is kept already is kept as it is now, and not published again.
///
/// A row of another database may have the same id: only states of the job that was registered at the same moment are
/// compared. A server whose memory is full keeps nothing, and publishes all the same.
///
/// It returns 0 for an older state, 1 for the same, 2 for a newer one, and 3 for one that was published and not kept.
const PUBLISH: &str = r"
local kept = redis.pcall('HMGET', KEYS[1], 'created', 'epoch', 'seq')
local is_same = false
if not kept.err and kept[1] == ARGV[1] then
  local epoch, seq = tonumber(kept[2]) or 0, tonumber(kept[3]) or 0
  local new_epoch, new_seq = tonumber(ARGV[2]), tonumber(ARGV[3])
  if epoch > new_epoch or (epoch == new_epoch and seq > new_seq) then
    return 0
  end
  is_same = epoch == new_epoch and seq == new_seq
end
local written = redis.pcall('HSET', KEYS[1], 'created', ARGV[1], 'epoch', ARGV[2], 'seq', ARGV[3],
  'head', ARGV[4], 'state', ARGV[5])
local is_kept = type(written) ~= 'table' or not written.err
if is_kept then
  redis.pcall('PEXPIRE', KEYS[1], ARGV[6])
end
if is_same then
  return 1
end
redis.call('PUBLISH', ARGV[7], ARGV[5])
redis.call('PUBLISH', ARGV[8], ARGV[4] .. '\n' .. ARGV[5])
return is_kept and 2 or 3
";

/// How many arguments the command has that publishes a state, and how long the hash and the numbers among them are at most, in bytes.
const ARGUMENTS: usize = 11;
const NUMBERS: usize = 160;

/// What became of a state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Published {
    /// A newer state of the job is kept.
    Stale,
    /// It had been published before.
    Again,
    /// It is published and kept.
    New,
    /// It is published, and Redis refuses to keep it.
    Unkept,
}

/// A state, as the script takes it.
#[derive(Debug)]
pub(super) struct ScriptArguments<'a> {
    pub(super) key: String,
    /// Milliseconds since 1970.
    pub(super) created_at: i64,
    pub(super) epoch: u64,
    pub(super) seq: u64,
    pub(super) head: String,
    pub(super) payload: &'a [u8],
    /// For how many milliseconds it is kept.
    pub(super) kept_for: u64,
    pub(super) progress_channel: String,
    pub(super) relays_channel: String,
}

/// The script, by the hash under which Redis knows it.
#[derive(Debug)]
pub(super) struct PublishScript {
    text: String,
    script: Script,
}

impl PublishScript {
    /// On sharded channels, or on those that all nodes of a Redis Cluster have.
    pub(super) fn new(is_sharded: bool) -> Self {
        let publish = if is_sharded { "SPUBLISH" } else { "PUBLISH" };
        let text = PUBLISH.replace("'PUBLISH'", &format!("'{publish}'"));
        let script = Script::new(&text);
        Self { text, script }
    }

    /// The command that makes the script known.
    pub(super) fn load(&self) -> Cmd {
        let mut load = cmd("SCRIPT");
        load.arg("LOAD").arg(&self.text);
        load
    }

    /// The command that publishes a state.
    pub(super) fn publish(&self, state: &ScriptArguments<'_>) -> Cmd {
        let texts = [
            &state.key,
            &state.head,
            &state.progress_channel,
            &state.relays_channel,
        ];
        let length: usize = texts.iter().map(|text| text.len()).sum();
        let mut publish = Cmd::with_capacity(ARGUMENTS, length + state.payload.len() + NUMBERS);
        publish.arg("EVALSHA");
        publish.arg(self.script.get_hash()).arg(1).arg(&state.key);
        publish
            .arg(state.created_at)
            .arg(state.epoch)
            .arg(state.seq);
        publish
            .arg(&state.head)
            .arg(state.payload)
            .arg(state.kept_for);
        publish
            .arg(&state.progress_channel)
            .arg(&state.relays_channel);
        publish
    }
}

impl Published {
    pub(super) fn of(answer: i64) -> Self {
        match answer {
            0 => Self::Stale,
            1 => Self::Again,
            3 => Self::Unkept,
            _ => Self::New,
        }
    }
}
