//! What was seen of something at the last looks, as a line of bars.

use std::collections::{BTreeMap, VecDeque};

/// Looks that a line reaches back.
pub(crate) const LOOKS: usize = 20;
pub(crate) const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// A value a look, of each that is still there.
#[derive(Debug)]
pub(crate) struct History<K>(BTreeMap<K, VecDeque<f64>>);

impl<K> Default for History<K> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<K: Ord> History<K> {
    /// Takes what was seen; what was not is forgotten.
    pub(crate) fn take(&mut self, seen: impl Iterator<Item = (K, f64)>) {
        let mut before = std::mem::take(&mut self.0);
        self.0 = seen
            .map(|(key, value)| {
                let mut past = before.remove(&key).unwrap_or_default();
                if past.len() == LOOKS {
                    past.pop_front();
                }
                past.push_back(value);
                (key, past)
            })
            .collect();
    }

    /// A bar a look, the largest as high as the line.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 7")]
    pub(crate) fn line(&self, key: &K) -> String {
        let Some(past) = self.0.get(key) else { return String::new() };
        let most = past.iter().copied().fold(0.0, f64::max);
        let bar = |value: &f64| {
            let height = if most > 0.0 { value / most * 7.0 } else { 0.0 };
            BARS[(height.round() as usize).min(7)]
        };
        past.iter().map(bar).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_follow_the_values_and_the_oldest_go() {
        let mut history = History::default();
        for value in [7.0, 0.0, 3.0] {
            history.take([("a", value), ("b", 0.0)].into_iter());
        }
        assert_eq!((history.line(&"a"), history.line(&"b")), ("█▁▄".into(), "▁▁▁".into()));
        for _ in 0..LOOKS {
            history.take([("a", 1.0)].into_iter());
        }
        assert_eq!(history.line(&"a"), "█".repeat(LOOKS), "the highest is gone");
        assert_eq!(history.line(&"b"), "", "it went");
    }
}
