//! A ring: the newest items, up to a number and a size.

use std::collections::VecDeque;

/// How much a ring keeps.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limit {
    pub(super) items: usize,
    pub(super) bytes: usize,
}

/// The newest items, but at least one. Each has a number, in the order of arrival.
#[derive(Debug)]
pub(super) struct Ring<T> {
    /// The items with their sizes.
    items: VecDeque<(T, usize)>,
    /// The sum of the sizes.
    bytes: usize,
    /// The number of the oldest item, which is how many were removed.
    first: u64,
    limit: Limit,
}

impl<T> Ring<T> {
    pub(super) fn new(limit: Limit) -> Self {
        Self {
            items: VecDeque::new(),
            bytes: 0,
            first: 0,
            limit,
        }
    }

    /// Adds an item of this size, and returns its number. [`pop_excess`](Self::pop_excess) removes what is then
    /// too much.
    pub(super) fn push(&mut self, item: T, bytes: usize) -> u64 {
        self.items.push_back((item, bytes));
        self.bytes += bytes;
        self.first + self.items.len() as u64 - 1
    }

    /// Removes the oldest item if there is too much, and returns it with its number. The newest item stays,
    /// whatever its size.
    pub(super) fn pop_excess(&mut self) -> Option<(u64, T)> {
        let is_too_much = self.items.len() > self.limit.items || self.bytes > self.limit.bytes;
        if !is_too_much || self.items.len() == 1 {
            return None;
        }
        let (item, bytes) = self.items.pop_front()?;
        self.bytes -= bytes;
        self.first += 1;
        Some((self.first - 1, item))
    }

    /// Returns the item with this number, unless it was removed.
    pub(super) fn get(&self, number: u64) -> Option<&T> {
        let index = number.checked_sub(self.first)?;
        let (item, _) = self.items.get(usize::try_from(index).ok()?)?;
        Some(item)
    }

    /// Returns the items, newest first.
    pub(super) fn newest(&self) -> impl Iterator<Item = &T> {
        self.items.iter().rev().map(|(item, _)| item)
    }

    pub(super) fn len(&self) -> usize {
        self.items.len()
    }

    /// Returns how many items were removed.
    pub(super) fn removed(&self) -> u64 {
        self.first
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_never_grows_beyond_its_limits_or_one_item() {
        for (items, bytes, expected) in [
            (0, 100, 1),
            (1, 100, 1),
            (3, 100, 3),
            (100, 0, 1),
            (100, 39, 3),
            (100, 40, 4),
        ] {
            let mut ring = Ring::new(Limit { items, bytes });
            for item in 0..10 {
                assert_eq!(ring.push(item, 10), item);
                while let Some((number, oldest)) = ring.pop_excess() {
                    assert_eq!(number, oldest);
                }
            }
            assert_eq!(ring.len(), expected);
            assert_eq!(ring.newest().next(), Some(&9));
        }
    }
}
