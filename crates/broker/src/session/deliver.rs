//! Turning planned deliveries into frames: bodies come from the segment files.

use std::sync::Arc;

use crate::SpoolError;
use crate::core::PlannedDelivery;
use crate::spool::Location;

/// Messages that are farther apart than this in their file are read one by one.
const MAX_GAP: u64 = 4096;
const MAX_READ: u64 = 1 << 20;

/// Appends the frames of `plan` to `out`, reading neighbours in one go.
///
/// # Errors
/// A stored message that cannot be read or is damaged.
pub(super) fn encode(plan: &[PlannedDelivery], out: &mut Vec<u8>) -> Result<(), SpoolError> {
    let mut rest = plan;
    let mut bytes = Vec::new();
    while let Some(first) = rest.first() {
        let start = u64::from(first.location.position);
        let count = run_length(rest);
        let (run, after) = rest.split_at(count);
        let end = run.last().map_or(start, |last| end_of(&last.location));
        bytes.resize((end - start) as usize, 0);
        first.location.segment.read_at(&mut bytes, start)?;
        for PlannedDelivery { delivery, location } in run {
            let from = (u64::from(location.position) - start) as usize;
            let record = &bytes[from..from + location.length as usize];
            delivery.put(out, location.message(record)?.content);
        }
        rest = after;
    }
    Ok(())
}

fn end_of(location: &Location) -> u64 {
    u64::from(location.position) + u64::from(location.length)
}

/// How many deliveries at the front lie close together, ascending, in one segment.
fn run_length(plan: &[PlannedDelivery]) -> usize {
    let Some(first) = plan.first().map(|planned| &planned.location) else { return 0 };
    let start = u64::from(first.position);
    let mut end = end_of(first);
    let neighbours = plan[1..].iter().take_while(|planned| {
        let next = &planned.location;
        let position = u64::from(next.position);
        let is_near = Arc::ptr_eq(&next.segment, &first.segment)
            && position >= end
            && position - end <= MAX_GAP
            && end_of(next) - start <= MAX_READ;
        if is_near {
            end = end_of(next);
        }
        is_near
    });
    1 + neighbours.count()
}
