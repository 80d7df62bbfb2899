use hashbrown::HashMap;

use crate::changelog::Position;

type Key = Box<[u8]>;

/// Which keys share a group value, so that a group that grows beyond its bound can be cut.
#[derive(Debug, Default)]
pub(super) struct Groups {
    members: HashMap<Key, Vec<(Position, Key)>>,
}

impl Groups {
    /// Adds a member; the group's size after it.
    pub(super) fn add(&mut self, group: &[u8], position: Position, key: &[u8]) -> usize {
        let member = (position, key.into());
        match self.members.get_mut(group) {
            Some(members) => {
                members.push(member);
                members.len()
            }
            None => {
                self.members.insert(group.into(), vec![member]);
                1
            }
        }
    }

    pub(super) fn remove(&mut self, group: &[u8], key: &[u8]) {
        let Some(members) = self.members.get_mut(group) else { return };
        members.retain(|(_, member)| member.as_ref() != key);
        if members.is_empty() {
            self.members.remove(group);
        }
    }

    /// Removes all but the newest `keep` members and returns the removed keys.
    pub(super) fn cut(&mut self, group: &[u8], keep: usize) -> Vec<Key> {
        let Some(members) = self.members.get_mut(group) else { return Vec::new() };
        members.sort_unstable_by_key(|(position, _)| *position);
        let surplus = members.len().saturating_sub(keep);
        members.drain(..surplus).map(|(_, key)| key).collect()
    }
}
