//! The values of a group in their order, each with a count, for what a sum alone cannot tell: MIN, MAX, distinct.

use std::collections::BTreeMap;

use crate::model::KeyBytes as Value;

/// Beyond this many values, moving them on an insert would cost more than a tree.
const FEW: usize = 64;

/// Encoded values in their order, and how often each one is there.
///
/// Most groups have one or a few values, for which a sorted list is smaller than a tree.
#[derive(Debug)]
pub(crate) enum ValueCounts {
    One(Value, i64),
    Few(Vec<(Value, i64)>),
    Many(BTreeMap<Value, i64>),
}

impl Default for ValueCounts {
    fn default() -> Self {
        Self::Few(Vec::new())
    }
}

impl ValueCounts {
    /// `false` if a value is taken out that is not there.
    pub(crate) fn add(&mut self, value: &[u8], weight: i64) -> bool {
        if let Self::One(only, count) = self {
            if **only == *value && *count + weight != 0 {
                *count += weight;
                return *count >= 0;
            }
            *self = Self::Few(vec![(only.clone(), *count)]);
        }
        match self {
            Self::One(..) => false,
            Self::Few(values) if values.is_empty() => {
                *self = Self::One(value.into(), weight);
                weight >= 0
            }
            Self::Few(values) => {
                let place = values.binary_search_by(|(other, _)| (**other).cmp(value));
                match place {
                    Ok(at) => {
                        values[at].1 += weight;
                        let count = values[at].1;
                        if count == 0 {
                            values.remove(at);
                        }
                        return count >= 0;
                    }
                    Err(at) => values.insert(at, (value.into(), weight)),
                }
                if values.len() > FEW {
                    *self = Self::Many(std::mem::take(values).into_iter().collect());
                }
                weight >= 0
            }
            Self::Many(values) => {
                let count = values.entry(value.into()).or_insert(0);
                *count += weight;
                let count = *count;
                if count == 0 {
                    values.remove(value);
                }
                count >= 0
            }
        }
    }

    pub(crate) fn len(&self) -> usize {
        match self {
            Self::One(..) => 1,
            Self::Few(values) => values.len(),
            Self::Many(values) => values.len(),
        }
    }

    pub(crate) fn first(&self) -> Option<&[u8]> {
        match self {
            Self::One(value, _) => Some(value),
            Self::Few(values) => values.first().map(|(value, _)| value.as_ref()),
            Self::Many(values) => values.first_key_value().map(|(value, _)| value.as_ref()),
        }
    }

    pub(crate) fn last(&self) -> Option<&[u8]> {
        match self {
            Self::One(value, _) => Some(value),
            Self::Few(values) => values.last().map(|(value, _)| value.as_ref()),
            Self::Many(values) => values.last_key_value().map(|(value, _)| value.as_ref()),
        }
    }

    /// In their order, each as often as it is there.
    pub(crate) fn repeated(&self) -> Vec<&[u8]> {
        match self {
            Self::One(value, count) => repeat(std::iter::once((value, *count))),
            Self::Few(values) => repeat(values.iter().map(|(value, count)| (value, *count))),
            Self::Many(values) => repeat(values.iter().map(|(value, count)| (value, *count))),
        }
    }

    /// In their order, each with how often it is there.
    pub(crate) fn each(&self, mut visit: impl FnMut(&[u8], i64)) {
        match self {
            Self::One(value, count) => visit(value, *count),
            Self::Few(values) => values.iter().for_each(|(value, count)| visit(value, *count)),
            Self::Many(values) => values.iter().for_each(|(value, count)| visit(value, *count)),
        }
    }

    /// Bytes, roughly.
    pub(crate) fn memory(&self) -> usize {
        const EACH: usize = size_of::<(Value, i64)>();
        match self {
            Self::One(value, _) => value.allocated(),
            Self::Few(values) => values.capacity() * EACH,
            Self::Many(values) => values.len() * 2 * EACH,
        }
    }
}

fn repeat<'a>(values: impl Iterator<Item = (&'a Value, i64)>) -> Vec<&'a [u8]> {
    let times = |count: i64| usize::try_from(count).unwrap_or(0);
    values.flat_map(|(value, count)| std::iter::repeat_n(value.as_ref(), times(count))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_that_becomes_a_tree_is_the_same_multiset() {
        let mut values = ValueCounts::default();
        for number in (0..200u8).rev() {
            assert!(values.add(&[number], 2));
        }
        assert!(matches!(values, ValueCounts::Many(_)));
        for number in 0..100u8 {
            assert!(values.add(&[number], -2));
        }
        assert_eq!(
            (values.len(), values.first(), values.last()),
            (100, Some(&[100][..]), Some(&[199][..]))
        );
        assert_eq!(values.repeated().len(), 200);
    }

    #[test]
    fn what_is_not_there_can_not_go() {
        let mut values = ValueCounts::default();
        assert!(!values.add(&[1], -1));
    }
}
