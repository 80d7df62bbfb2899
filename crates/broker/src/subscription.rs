//! Topic subscriptions: which targets want a message of a topic.

use std::collections::HashMap;
use std::sync::Arc;

/// Topics remembered with their targets; a broker for development sees few.
const MAX_CACHED_TOPICS: usize = 10_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Target {
    Queue(u32),
    Connection(u64),
}

/// True if `pattern` matches `topic`.
///
/// `>` as the whole last level stands for one or more levels; a level ending in `*` stands for any
/// level with that prefix. Anywhere else both are ordinary characters.
pub(crate) fn matches(pattern: &str, topic: &str) -> bool {
    let mut topic_levels = topic.split('/');
    let mut pattern_levels = pattern.split('/').peekable();
    while let Some(wanted) = pattern_levels.next() {
        let is_last = pattern_levels.peek().is_none();
        let Some(level) = topic_levels.next() else { return false };
        if wanted == ">" && is_last {
            return true;
        }
        let fits = match wanted.strip_suffix('*') {
            Some(prefix) => level.starts_with(prefix),
            None => level == wanted,
        };
        if !fits {
            return false;
        }
    }
    topic_levels.next().is_none()
}

fn has_wildcard(pattern: &str) -> bool {
    pattern == ">"
        || pattern.ends_with("/>")
        || pattern.split('/').any(|level| level.ends_with('*'))
}

/// True if the text can be a subscription at all: no empty text and no empty level.
pub(crate) fn is_valid(pattern: &str) -> bool {
    pattern.split('/').all(|level| !level.is_empty())
}

/// All subscriptions of the broker.
#[derive(Debug, Default)]
pub(crate) struct Subscriptions {
    exact: HashMap<String, Vec<Target>>,
    wildcards: Vec<(String, Target)>,
    cache: HashMap<String, Arc<[Target]>>,
}

impl Subscriptions {
    /// False if the target had this subscription already.
    pub(crate) fn add(&mut self, pattern: &str, target: Target) -> bool {
        self.cache.clear();
        if has_wildcard(pattern) {
            let exists = self.wildcards.iter().any(|(have, of)| have == pattern && *of == target);
            if !exists {
                self.wildcards.push((pattern.to_owned(), target));
            }
            return !exists;
        }
        let targets = self.exact.entry(pattern.to_owned()).or_default();
        let exists = targets.contains(&target);
        if !exists {
            targets.push(target);
        }
        !exists
    }

    /// False if the target had no such subscription.
    pub(crate) fn remove(&mut self, pattern: &str, target: Target) -> bool {
        self.cache.clear();
        let before = self.wildcards.len();
        self.wildcards.retain(|(have, of)| have != pattern || *of != target);
        if self.wildcards.len() < before {
            return true;
        }
        let Some(targets) = self.exact.get_mut(pattern) else { return false };
        let before = targets.len();
        targets.retain(|have| *have != target);
        let is_removed = targets.len() < before;
        if targets.is_empty() {
            self.exact.remove(pattern);
        }
        is_removed
    }

    pub(crate) fn remove_target(&mut self, target: Target) {
        self.cache.clear();
        self.wildcards.retain(|(_, of)| *of != target);
        self.exact.retain(|_, targets| {
            targets.retain(|have| *have != target);
            !targets.is_empty()
        });
    }

    /// Everyone who wants the topic, once each.
    pub(crate) fn targets(&mut self, topic: &str) -> Arc<[Target]> {
        if let Some(targets) = self.cache.get(topic) {
            return Arc::clone(targets);
        }
        let exact = self.exact.get(topic).into_iter().flatten().copied();
        let wild = self.wildcards.iter().filter(|(pattern, _)| matches(pattern, topic));
        let mut targets: Vec<Target> = exact.chain(wild.map(|(_, target)| *target)).collect();
        targets.sort_unstable();
        targets.dedup();
        let targets: Arc<[Target]> = targets.into();
        if self.cache.len() >= MAX_CACHED_TOPICS {
            self.cache.clear();
        }
        self.cache.insert(topic.to_owned(), Arc::clone(&targets));
        targets
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards_match_as_documented() {
        let cases = [
            ("a/b", "a/b", true),
            ("a/b", "a/b/c", false),
            ("a/>", "a", false),
            ("a/>", "a/b/c", true),
            (">", "a/b", true),
            ("a/*/c", "a/b/c", true),
            ("a/*", "a/b/c", false),
            ("a/pre*", "a/prefix", true),
            ("a/pre*", "a/pre", true),
            ("a/pre*", "a/other", false),
            ("a/x*y", "a/xzy", false),
            ("a/x*y", "a/x*y", true),
            ("a/>/c", "a/b/c", false),
            ("a/>/c", "a/>/c", true),
        ];
        for (pattern, topic, expected) in cases {
            assert_eq!(matches(pattern, topic), expected, "{pattern} on {topic}");
        }
    }

    #[test]
    fn a_target_with_two_matching_subscriptions_is_named_once() {
        let mut subscriptions = Subscriptions::default();
        assert!(subscriptions.add("a/>", Target::Queue(1)));
        assert!(subscriptions.add("a/b", Target::Queue(1)));
        assert!(!subscriptions.add("a/b", Target::Queue(1)));
        assert!(subscriptions.add("a/*", Target::Connection(7)));
        assert_eq!(*subscriptions.targets("a/b"), [Target::Queue(1), Target::Connection(7)]);
    }

    #[test]
    fn removed_subscriptions_match_no_more() {
        let mut subscriptions = Subscriptions::default();
        subscriptions.add("a/>", Target::Queue(1));
        subscriptions.add("a/b", Target::Connection(7));
        assert_eq!(subscriptions.targets("a/b").len(), 2);
        assert!(subscriptions.remove("a/b", Target::Connection(7)));
        assert!(!subscriptions.remove("a/b", Target::Connection(7)));
        subscriptions.remove_target(Target::Queue(1));
        assert!(subscriptions.targets("a/b").is_empty());
    }
}
