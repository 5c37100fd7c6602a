//! A ring: the newest items, up to a number.

use std::collections::VecDeque;

/// The newest items, but at least one. Each has a number, in the order of arrival.
#[derive(Debug)]
pub(super) struct Ring<T> {
    items: VecDeque<T>,
    /// The number of the oldest item, which is how many were removed.
    first: u64,
    capacity: usize,
}

impl<T> Ring<T> {
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            items: VecDeque::new(),
            first: 0,
            capacity,
        }
    }

    /// Adds an item. Returns its number, and the oldest item with its number if that had to be removed.
    pub(super) fn push(&mut self, item: T) -> (u64, Option<(u64, T)>) {
        let removed = if self.items.len() >= self.capacity {
            self.items.pop_front().map(|oldest| {
                self.first += 1;
                (self.first - 1, oldest)
            })
        } else {
            None
        };
        self.items.push_back(item);
        (self.first + self.items.len() as u64 - 1, removed)
    }

    /// Returns the item with this number, unless it was removed.
    pub(super) fn get(&self, number: u64) -> Option<&T> {
        let index = number.checked_sub(self.first)?;
        self.items.get(usize::try_from(index).ok()?)
    }

    /// Returns the items, newest first.
    pub(super) fn newest(&self) -> impl Iterator<Item = &T> {
        self.items.iter().rev()
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
    fn it_never_grows_beyond_its_capacity_or_one_item() {
        for (capacity, expected) in [(0, 1), (1, 1), (3, 3)] {
            let mut ring = Ring::new(capacity);
            for item in 0..10 {
                ring.push(item);
            }
            assert_eq!(ring.len(), expected);
            assert_eq!(ring.newest().next(), Some(&9));
        }
    }
}
