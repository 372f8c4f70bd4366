/// The rounds of a loop, as ComfyUI says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoopRounds {
    /// How many have ended.
    pub ended: u32,
    /// How many there are.
    pub all: u32,
}
