use hashbrown::HashMap;

use crate::changelog::{KeyBytes as Key, Position};

/// Which keys share a group value, so that a group that grows beyond its bound can be cut.
#[derive(Debug, Default)]
pub(super) struct Groups {
    groups: HashMap<Key, Group>,
}

#[derive(Debug, Default)]
struct Group {
    members: Vec<(Position, Key)>,
    was_cut: bool,
}

impl Groups {
    /// Adds a member; the group's size after it.
    pub(super) fn add(&mut self, group: &[u8], position: Position, key: &[u8]) -> usize {
        let member = (position, key.into());
        match self.groups.get_mut(group) {
            Some(group) => {
                group.members.push(member);
                group.members.len()
            }
            None => {
                let new = Group { members: vec![member], was_cut: false };
                self.groups.insert(group.into(), new);
                1
            }
        }
    }

    pub(super) fn remove(&mut self, group: &[u8], key: &[u8]) {
        let Some(found) = self.groups.get_mut(group) else { return };
        found.members.retain(|(_, member)| **member != *key);
        if found.members.is_empty() {
            self.groups.remove(group);
        }
    }

    /// Removes all but the newest `keep` members and returns the removed keys.
    pub(super) fn cut(&mut self, group: &[u8], keep: usize) -> Vec<Key> {
        let Some(Group { members, was_cut }) = self.groups.get_mut(group) else {
            return Vec::new();
        };
        *was_cut = true;
        members.sort_unstable_by_key(|(position, _)| *position);
        let surplus = members.len().saturating_sub(keep);
        members.drain(..surplus).map(|(_, key)| key).collect()
    }

    /// Whether members of the group have left memory by its bound, and not by ttl.
    pub(super) fn was_cut(&self, group: &[u8]) -> bool {
        self.groups.get(group).is_some_and(|group| group.was_cut)
    }
}
