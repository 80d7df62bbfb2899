//! Which rows of an epoch the landing tables would refuse, before the epoch is folded.
//!
//! What the types of the columns tell costs no round trip. Of tables that have refused rows for another
//! reason the CHECK constraints are evaluated; if that is not enough, the rows are written in a transaction that is
//! rolled back.

use std::time::SystemTime;

use super::PostgresSink;
use super::careful::try_out;
use super::connection::Connection;
use super::fit::misfits;
use super::isolate::Refusal;
use super::landing::target_name;
use super::refused::of_landing;
use crate::changelog::Changelog;
use crate::sink::{Distrust, RefusedRow, SinkError};

/// Epochs in a row without a refused row after which a table is looked at less, and then not at all.
pub(super) const TRIALS: u32 = 200;

pub(super) async fn refused(
    sink: &mut PostgresSink,
    landing: &[Changelog],
) -> Result<Vec<RefusedRow>, SinkError> {
    let is_tried = |sink: &PostgresSink, changelog: &Changelog| {
        sink.distrusted.contains_key(&changelog.table.name)
    };
    let mut told = by_types(sink, landing)?;
    let has_told = told.iter().any(|refusals| !refusals.is_empty());
    if has_told || landing.iter().any(|changelog| is_tried(sink, changelog)) {
        let mut connection = sink.connect().await?;
        if has_told {
            // Somebody may have widened the column.
            sink.check_again(&connection).await?;
            told = by_types(sink, landing)?;
        }
        for (changelog, refusals) in landing.iter().zip(&mut told) {
            if is_tried(sink, changelog) {
                *refusals = trial(sink, &mut connection, changelog).await?;
            }
        }
        sink.connection = Some(connection);
    }
    let mut rows = Vec::new();
    for (changelog, refusals) in landing.iter().zip(told) {
        let refused: Vec<RefusedRow> = refusals.iter().map(|r| of_landing(changelog, r)).collect();
        let first = refused.first().map_or("", |row| row.message.as_str());
        let counts = (refused.len(), changelog.len());
        let name = target_name(&changelog.table).unwrap_or(&changelog.table.name);
        sink.floods.note(name, counts, first)?;
        rows.extend(refused);
    }
    Ok(rows)
}

/// For each changelog the rows that the types of its target refuse.
fn by_types(sink: &PostgresSink, landing: &[Changelog]) -> Result<Vec<Vec<Refusal>>, SinkError> {
    let of_changelog = |changelog: &Changelog| {
        // The stamp fits, whatever it is.
        let piece = sink.targets.landing_piece(changelog, SystemTime::UNIX_EPOCH)?;
        Ok(piece.map_or_else(Vec::new, |piece| misfits(&piece.rows)))
    };
    landing.iter().map(of_changelog).collect()
}

async fn trial(
    sink: &mut PostgresSink,
    connection: &mut Connection,
    changelog: &Changelog,
) -> Result<Vec<Refusal>, SinkError> {
    let piece = sink.targets.landing_piece(changelog, SystemTime::UNIX_EPOCH)?;
    let Some(piece) = piece else { return Ok(Vec::new()) };
    let name = &changelog.table.name;
    let Some((distrust, left)) = sink.distrusted.get(name).copied() else { return Ok(Vec::new()) };
    let refusals = try_out(connection, &piece, distrust).await?;
    let needed = refusals.iter().map(|refusal| refusal.found_by).max();
    let next = match (distrust, needed) {
        (_, Some(needed)) if needed == distrust => Some((distrust, TRIALS)),
        (distrust, _) if left > 1 => Some((distrust, left - 1)),
        (Distrust::Trial, _) => Some((Distrust::Checks, TRIALS)),
        (Distrust::Checks, _) => None,
    };
    match next {
        Some(next) => sink.distrusted.insert(name.clone(), next),
        None => sink.distrusted.remove(name),
    };
    Ok(refusals)
}
