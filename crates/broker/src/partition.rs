//! Partitions of a queue: key -> partition and partition -> consumer.

/// A consumer flow, unique in the broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct FlowKey {
    pub(crate) connection: u64,
    pub(crate) flow: u32,
}

/// The partition of a key with this hash.
pub(crate) fn of_hash(hash: u32, partitions: usize) -> usize {
    hash as usize % partitions.max(1)
}

/// The flow that partition `number` belongs to: neighbours to different flows, sizes differ by one
/// at most.
pub(crate) fn owner(number: usize, flows: &[FlowKey]) -> Option<FlowKey> {
    let at = number.checked_rem(flows.len())?;
    flows.get(at).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flows(count: u32) -> Vec<FlowKey> {
        (0..count).map(|flow| FlowKey { connection: 1, flow }).collect()
    }

    #[test]
    fn partitions_are_shared_out_evenly() {
        let flows = flows(3);
        let counts = flows
            .iter()
            .map(|flow| (0..8).filter(|number| owner(*number, &flows) == Some(*flow)).count());
        assert_eq!(counts.collect::<Vec<_>>(), [3, 3, 2]);
    }

    #[test]
    fn without_consumers_a_partition_has_no_owner() {
        assert_eq!(owner(0, &[]), None);
    }

    #[test]
    fn a_hash_always_names_the_same_partition() {
        assert_eq!(of_hash(0xffff_ffff, 4), 3);
        assert_eq!(of_hash(6, 4), 2);
    }
}
