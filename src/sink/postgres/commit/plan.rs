//! From what an epoch holds to the parts of its transaction.

use std::borrow::Cow;

use super::ledger::Ledger;
use super::transaction::EpochWrite;
use super::{lost_epochs, schema_changes};
use crate::model::{Changelog, Channel, EpochCommit, ResultChanges, ResultTable};
use crate::sink::SinkError;
use crate::sink::postgres::dead_letters::{letter_table, replay_outcomes};
use crate::sink::postgres::outbox::{self, resends};
use crate::sink::postgres::schema::landing_columns::is_current;
use crate::sink::postgres::target::current::{CurrentRows, Owner};
use crate::sink::postgres::target::row_write::{RowOrigin, RowWrite, TargetWrite, WriteMethod};
use crate::sink::postgres::target::truncate;
use crate::sink::postgres::targets::Targets;

/// An epoch, and what is known of where it goes.
#[derive(Clone, Copy)]
pub(crate) struct EpochPlan<'a> {
    pub(crate) ledger: &'a Ledger,
    pub(crate) schema: &'a str,
    pub(crate) targets: &'a Targets,
    /// Generations of the queue that are surely in the database.
    pub(crate) known_generations: usize,
    pub(crate) commit: &'a EpochCommit,
    /// What of the changes is to be written.
    pub(crate) landing: &'a [Cow<'a, Changelog>],
}

impl<'a> EpochPlan<'a> {
    /// The parts of the transaction. Results of which `is_whole` are written whole, the others by what their
    /// targets are said to hold.
    pub(crate) fn prepare(
        &self,
        is_whole: impl Fn(&ResultTable) -> bool,
    ) -> Result<EpochWrite<'a>, SinkError> {
        let Self { ledger, schema, targets, commit, .. } = *self;
        let mut write = EpochWrite {
            epoch: commit.epoch,
            ledger_row: ledger.insert(commit)?,
            writes: Vec::new(),
            truncates: Vec::new(),
        };
        if commit.generations.all().len() > self.known_generations {
            write.add([ledger.insert_generations(commit)]);
        }
        self.land(&mut write)?;
        for changes in commit.results.iter().filter(|changes| !changes.is_empty()) {
            if changes.table.channel != Channel::Table {
                self.post(changes, &mut write)?;
                continue;
            }
            let target = targets.result_of(&changes.table)?;
            if changes.is_new_definition {
                write.add(target.delete_all());
                write.add([ledger.define_result(&changes.table)]);
                let names = std::slice::from_ref(&changes.table.name);
                write.add([ledger.close_gaps(names)]);
            }
            if let Some((rows, sql)) = target.deletes(changes)? {
                let (method, origin) =
                    (WriteMethod::Delete(sql.clone()), RowOrigin::Deletes(changes));
                write.writes.push(TargetWrite::Rows(RowWrite { rows, method, origin }));
            }
            let writes = if is_whole(&changes.table) {
                vec![target.whole(changes, commit.closed_at)?]
            } else {
                target.by_difference(changes, commit.closed_at)?
            };
            write.writes.extend(writes.into_iter().map(TargetWrite::Rows));
        }
        if !commit.retired.is_empty() {
            write.add([ledger.retire_results(&commit.retired)]);
            write.add([ledger.close_gaps(&commit.retired)]);
        }
        write.writes.extend(self.dead_letters()?);
        let settled = replay_outcomes::update(schema, &commit.replayed, commit.closed_at);
        write.add(settled);
        write.add(resends::statements(commit, schema, &ledger.pipeline)?);
        if let Some(loss) = &commit.accepted_loss {
            write.add(lost_epochs::accept(schema, &ledger.pipeline, commit.epoch, loss)?);
        }
        if !commit.schema_changes.is_empty() {
            write.add([schema_changes::insert(schema, &ledger.pipeline, commit)?]);
        }
        Ok(write)
    }

    /// Adds the landing tables' rows.
    fn land(&self, write: &mut EpochWrite<'a>) -> Result<(), SinkError> {
        let Self { ledger, schema, targets, commit, .. } = *self;
        let owner = Owner { schema, pipeline: &ledger.pipeline };
        for changelog in self.landing.iter().filter(|changelog| !changelog.is_empty()) {
            let row_write = targets.landing_write(owner, changelog, commit.closed_at)?;
            write.writes.extend(row_write.map(TargetWrite::Rows));
            let Some(target) = targets.landing.get(&changelog.table.name) else { continue };
            if is_current(&changelog.table) {
                let rows = CurrentRows::new(owner, &changelog.table, target);
                write.truncates.extend(changelog.truncations.iter().map(|it| rows.truncate(it)));
            } else {
                let statements = truncate::statements(changelog, target, commit.closed_at);
                write.truncates.extend(statements);
            }
        }
        Ok(())
    }

    /// Adds what is to be posted, and notes a new definition.
    fn post(&self, changes: &ResultChanges, write: &mut EpochWrite<'_>) -> Result<(), SinkError> {
        let Self { ledger, schema, commit, .. } = *self;
        if changes.is_new_definition {
            write.add([ledger.define_result(&changes.table)]);
        }
        write.add(outbox::inserts(changes, commit, schema, &ledger.pipeline)?);
        Ok(())
    }

    fn dead_letters(&self) -> Result<Vec<TargetWrite<'a>>, SinkError> {
        let Self { ledger, targets, commit, .. } = *self;
        if commit.letters() == 0 {
            return Ok(Vec::new());
        }
        let (target, written_by) = (targets.dead_letters()?, ledger.written_by(commit.closed_at));
        let mut inserts = letter_table::inserts(commit, target, written_by)?;
        inserts.extend(letter_table::of_left_out(&commit.result_letters, target, written_by)?);
        Ok(inserts)
    }
}
