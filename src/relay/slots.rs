//! [`Slots`]: a list to which is only ever added, and that is read without a lock.

use std::ops::Index;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A list to which is only ever added: an index stays what it is. Readers take no lock, and may hold what they read.
#[derive(Debug)]
pub(super) struct Slots<T> {
    slots: Box<[OnceLock<T>]>,
    filled: AtomicUsize,
}

impl<T> Slots<T> {
    /// A list of these, with room for so many more.
    pub(super) fn new(first: impl IntoIterator<Item = T>, room: usize) -> Self {
        let first: Vec<OnceLock<T>> = first.into_iter().map(OnceLock::from).collect();
        let filled = first.len();
        let free = (0..room).map(|_| OnceLock::new());
        Self {
            slots: first.into_iter().chain(free).collect(),
            filled: AtomicUsize::new(filled),
        }
    }

    /// How many there are: the index of the next one.
    pub(super) fn len(&self) -> usize {
        self.filled.load(Ordering::Acquire)
    }

    /// Adds one. Returns whether there was room. Only one may be added at a time.
    pub(super) fn push(&self, item: T) -> bool {
        let index = self.len();
        let has_room = self
            .slots
            .get(index)
            .is_some_and(|slot| slot.set(item).is_ok());
        if has_room {
            self.filled.store(index + 1, Ordering::Release);
        }
        has_room
    }

    /// All of them, by their indices.
    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = &T> + Clone {
        self.slots[..self.len()].iter().filter_map(OnceLock::get)
    }
}

impl<T> Index<usize> for Slots<T> {
    type Output = T;

    fn index(&self, index: usize) -> &T {
        let item = self.slots[index].get();
        item.expect("an index that was given out is that of an item")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_added_keeps_its_index() {
        let slots = Slots::new(["a"], 2);
        let first = &slots[0];
        assert!(slots.push("b") && slots.push("c"));
        assert!(!slots.push("d"), "there is no room");
        assert_eq!((*first, slots[2], slots.len()), ("a", "c", 3));
        assert_eq!(slots.iter().copied().collect::<Vec<_>>(), ["a", "b", "c"]);
    }
}
