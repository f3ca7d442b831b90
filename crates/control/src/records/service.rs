//! What a service is, by the word of the hosts that offer it.
//!
//! Each of them has one voice. What most say holds; on a tie what held before does. So a host that
//! says otherwise than the others changes nothing, and a change that is rolled out holds once it has
//! come to more hosts than not.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use sinew_model::{NodeName, fleet::ServiceRecord};

/// Different words of one service that are kept beside what holds: a change is one, and so many are
/// no change but a mistake. They bound the value, which every replica holds.
const OTHERWISE: usize = 16;

/// What a service is, and whose hosts said so.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoredService {
    /// `None`: it is gone.
    pub record: Option<ServiceRecord>,
    /// Hosts that offer it.
    pub owners: BTreeSet<NodeName>,
    /// What some of them say that it is, where that is not what holds.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub otherwise: Vec<StoredWord>,
}

/// What some hosts say that a service is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoredWord {
    /// What.
    pub record: ServiceRecord,
    /// Those who say so.
    pub by: BTreeSet<NodeName>,
}

impl StoredService {
    /// A host offers it, and says what it is. Answers whether that holds.
    pub fn say(&mut self, node: &NodeName, record: &ServiceRecord) -> bool {
        // Saying it again changes nothing, not even the order of what is said.
        if self.word_of(node) == Some(record) {
            return self.record.as_ref() == Some(record);
        }
        self.unsay(node);
        if self.record.is_none() {
            self.record = Some(record.clone());
        }
        if self.record.as_ref() != Some(record) {
            let index = self.otherwise.iter().position(|word| word.record == *record);
            let index = match index {
                Some(index) => index,
                // Nobody heeds its voice, so it has none.
                None if self.otherwise.len() == OTHERWISE => {
                    self.owners.remove(node);
                    return false;
                }
                None => {
                    self.otherwise.push(StoredWord { record: record.clone(), by: [].into() });
                    self.otherwise.len() - 1
                }
            };
            self.otherwise[index].by.insert(node.clone());
        }
        self.owners.insert(node.clone());
        self.settle();
        self.record.as_ref() == Some(record)
    }

    /// A host offers it no longer. Answers whether it did.
    pub fn leave(&mut self, node: &NodeName) -> bool {
        self.unsay(node);
        let left = self.owners.remove(node);
        self.settle();
        left
    }

    fn word_of(&self, node: &NodeName) -> Option<&ServiceRecord> {
        self.owners.get(node)?;
        let other = self.otherwise.iter().find(|word| word.by.contains(node));
        other.map(|word| &word.record).or(self.record.as_ref())
    }

    fn unsay(&mut self, node: &NodeName) {
        self.otherwise.retain_mut(|word| {
            word.by.remove(node);
            !word.by.is_empty()
        });
    }

    /// What most say holds.
    fn settle(&mut self) {
        let dissent = |word: &StoredWord| word.by.len();
        let behind = self.owners.len().saturating_sub(self.otherwise.iter().map(dissent).sum());
        // The first of those that as many say.
        let most = self.otherwise.iter().enumerate().rev().max_by_key(|(_, word)| dissent(word));
        let Some((index, _)) = most.filter(|(_, word)| dissent(word) > behind) else { return };
        let StoredWord { record, by } = self.otherwise.remove(index);
        let before = self.record.replace(record).filter(|_| behind > 0);
        let dissents = |node: &&NodeName| self.otherwise.iter().any(|word| word.by.contains(*node));
        let others = self.owners.iter().filter(|node| !by.contains(*node) && !dissents(node));
        let by = others.cloned().collect();
        self.otherwise.extend(before.map(|record| StoredWord { record, by }));
    }
}

#[cfg(test)]
mod tests {
    use sinew_model::{Balance, Outlier};

    use super::*;

    fn record(failures: u32) -> ServiceRecord {
        let outlier = Outlier { consecutive_failures: failures, ..Outlier::default() };
        ServiceRecord { ports: Vec::new(), balance: Balance::default(), outlier }
    }

    fn name(n: usize) -> NodeName {
        NodeName::new(format!("n{n}")).unwrap()
    }

    fn holds(service: &StoredService) -> u32 {
        service.record.as_ref().unwrap().outlier.consecutive_failures
    }

    #[test]
    fn one_host_of_several_changes_nothing_and_most_of_them_do() {
        let mut service = StoredService::default();
        for n in 0..3 {
            assert!(service.say(&name(n), &record(1)));
        }
        assert!(!service.say(&name(0), &record(2)));
        assert_eq!((holds(&service), service.otherwise.len()), (1, 1));
        assert!(!service.say(&name(2), &record(3)));
        let before = service.clone();
        for (n, words) in [(0, 2), (2, 3), (0, 2), (1, 1)] {
            assert_eq!(service.say(&name(n), &record(words)), n == 1);
            assert_eq!(service, before, "saying it again is no change");
        }
        assert!(service.say(&name(2), &record(1)));
        assert!(service.say(&name(1), &record(2)));
        assert_eq!((holds(&service), &service.otherwise[0].by), (2, &[name(2)].into()));
        assert!(service.say(&name(2), &record(2)));
        assert_eq!((holds(&service), service.otherwise.len(), service.owners.len()), (2, 0, 3));
    }

    #[test]
    fn who_is_alone_changes_it_and_who_stays_alone_too() {
        let mut service = StoredService::default();
        service.say(&name(0), &record(1));
        assert!(service.say(&name(0), &record(2)));
        assert_eq!(service.otherwise, []);
        service.say(&name(1), &record(2));
        assert!(!service.say(&name(1), &record(3)), "a tie");
        assert!(service.leave(&name(0)) && !service.leave(&name(0)));
        assert_eq!((holds(&service), service.otherwise.len()), (3, 0));
        service.leave(&name(1));
        assert_eq!((holds(&service), service.owners.len()), (3, 0), "it stays what it was");
    }

    #[test]
    fn words_that_are_kept_are_bounded() {
        let mut service = StoredService::default();
        for n in 0..100 {
            service.say(&name(n), &record(0));
        }
        for (n, words) in (0..40).zip(1..) {
            service.say(&name(n), &record(words));
            assert_eq!(service.otherwise.len(), usize::try_from(words).unwrap().min(OTHERWISE));
        }
        assert_eq!((holds(&service), service.owners.len()), (0, 100 - (40 - OTHERWISE)));
    }
}
