//! The names of all metrics, in one place, because dashboards depend on them.

use metrics::{describe_counter, describe_gauge, describe_histogram};

/// Those of the Solace client.
pub use tidemark_solace::names::{
    ALERTS, PRESSURE, QUEUE_BYTES, QUEUE_MESSAGES, QUEUE_TOLD, QUEUE_UNACKED,
};

pub const MESSAGES: &str = "cdc_messages_total";
pub const DUPLICATES: &str = "cdc_duplicate_messages_total";
pub const ROWS: &str = "cdc_rows_total";
pub const STALE_ROWS: &str = "cdc_stale_rows_total";
pub const OUTDATED_READS: &str = "cdc_outdated_snapshot_rows_total";
pub const TRIMMED_ROWS: &str = "cdc_group_trimmed_rows_total";
pub const EVICTED_ROWS: &str = "cdc_evicted_rows_total";
pub const FAILED_EVICTIONS: &str = "cdc_failed_evictions_total";
pub const RECALLED_ROWS: &str = "cdc_recalled_rows_total";
pub const TRUNCATES: &str = "cdc_truncates_total";
pub const UNAVAILABLE_VALUES: &str = "cdc_unavailable_values_total";
pub const UNREAD_DOCUMENTS: &str = "cdc_unread_documents_total";
pub const UNREAD_VALUES: &str = "cdc_unread_xml_values_total";
pub const UNREAD_ATTRIBUTES: &str = "cdc_unread_xml_attributes_total";
pub const LATE_ROWS: &str = "cdc_late_rows_total";
pub const DOUBTED_TIMES: &str = "cdc_doubted_times_total";
pub const PASSED: &str = "cdc_passed_messages_total";
pub const DEAD_LETTERS: &str = "cdc_dead_letters_total";
pub const REPLAYED: &str = "cdc_replayed_dead_letters_total";
pub const PUBLISHED_LETTERS: &str = "cdc_published_dead_letters_total";
pub const OPEN_LETTERS: &str = "cdc_open_dead_letters";
pub const OLDEST_LETTER: &str = "cdc_oldest_open_dead_letter_age_seconds";
pub const SCHEMA_CHANGES: &str = "cdc_schema_changes_total";
pub const LEFT_OUT_ROWS: &str = "cdc_left_out_rows_total";
pub const RESULT_ROWS: &str = "cdc_result_rows_total";
pub const EPOCHS: &str = "cdc_epochs_total";
pub const COMMIT_RETRIES: &str = "cdc_commit_retries_total";
pub const REFUSED_ROWS: &str = "cdc_refused_rows_total";
pub const COMMIT_SECONDS: &str = "cdc_commit_seconds";
pub const PROCESS_SECONDS: &str = "cdc_process_seconds";
pub const STAGE_SECONDS: &str = "cdc_stage_seconds";
pub const LAG_SECONDS: &str = "cdc_commit_lag_seconds";
pub const STATE_ROWS: &str = "cdc_state_rows";
pub const STATE_BYTES: &str = "cdc_state_bytes";
pub const STATE_DISK_BYTES: &str = "cdc_state_disk_bytes";
pub const SQL_EDITS: &str = "cdc_sql_edits_total";
pub const EDIT_REFUSED: &str = "cdc_sql_edit_refused";
pub const SQL_PLANS: &str = "cdc_sql_plans_total";
pub const WAITING: &str = "cdc_waiting_transforms";
pub const UPKEEP_BYTES: &str = "cdc_upkeep_bytes";
pub const LOOKUP_ROWS: &str = "cdc_lookup_rows";
pub const LOOKUP_VERSIONS: &str = "cdc_lookup_versions";
pub const LOOKUP_BYTES: &str = "cdc_lookup_bytes";
pub const BREAKER_STATE: &str = "cdc_breaker_state";
pub const REST_REQUESTS: &str = "cdc_rest_requests_total";
pub const OUTBOX_ROWS: &str = "cdc_outbox_rows";
pub const OUTBOX_LIMIT: &str = "cdc_outbox_limit";
pub const HEARTBEAT: &str = "cdc_heartbeat_timestamp_seconds";
pub const READY: &str = "cdc_ready";
pub const CHECKPOINT_ERRORS: &str = "cdc_checkpoint_errors_total";
pub const SKIPPED_CHECKPOINTS: &str = "cdc_checkpoint_skipped_epochs_total";
pub const PRUNED_ROWS: &str = "cdc_pruned_rows_total";
pub const PRUNING_ERRORS: &str = "cdc_pruning_errors_total";
pub const ACCEPTED_LOST_EPOCHS: &str = "cdc_accepted_lost_epochs";

/// Tells the recorder what each metric means; it shows as HELP text.
pub(super) fn describe() {
    describe_counter!(MESSAGES, "messages taken from the source");
    describe_counter!(DUPLICATES, "messages that the ledger held already");
    describe_counter!(ROWS, "changes decoded, by table");
    describe_counter!(STALE_ROWS, "changes older than the current row of their key, by table");
    describe_counter!(
        OUTDATED_READS,
        "snapshot rows that were read before the newest change of their key, by table"
    );
    describe_counter!(
        TRIMMED_ROWS,
        "rows that left memory because their group was too large, by table"
    );
    describe_counter!(EVICTED_ROWS, "rows that left memory for the disk, by table");
    describe_counter!(FAILED_EVICTIONS, "times that the disk of the state took no rows");
    describe_counter!(RECALLED_ROWS, "rows that came back into memory to be changed, by table");
    describe_counter!(TRUNCATES, "truncates of source tables that were applied, by table");
    describe_counter!(
        UNAVAILABLE_VALUES,
        "values that events did not carry because a LOB was unchanged, by table"
    );
    describe_documents();
    describe_counter!(
        LATE_ROWS,
        "changes whose windows were closed, by table and outcome: applied, dead_letter, dropped"
    );
    describe_counter!(
        DOUBTED_TIMES,
        "times too far in the future to move the clock, by table and column"
    );
    describe_counter!(PASSED, "messages that rightly change no row, by kind");
    describe_queue();
    describe_dead_letters();
    describe_counter!(
        SCHEMA_CHANGES,
        "columns that appeared, are missing or hold another type, by table and change"
    );
    describe_counter!(ALERTS, "log lines with the field alert, by kind");
    describe_counter!(RESULT_ROWS, "rows written or deleted in targets, by result");
    describe_counter!(EPOCHS, "epochs committed");
    describe_counter!(COMMIT_RETRIES, "commits that failed and were tried again");
    describe_faults();
    describe_histogram!(COMMIT_SECONDS, "time of the commit transaction");
    describe_histogram!(PROCESS_SECONDS, "time to decode, fold and run the SQL of an epoch");
    describe_histogram!(
        STAGE_SECONDS,
        "time of a stage of an epoch: decode, late, fold, sql, evict, commit or ack"
    );
    describe_histogram!(
        LAG_SECONDS,
        "from the database's change time to the commit, of each landed row"
    );
    describe_memory();
    describe_sql();
    describe_counter!(
        REST_REQUESTS,
        "requests to the REST API, by path and outcome: delivered, refused or failed"
    );
    describe_gauge!(OUTBOX_ROWS, "rows that wait to be posted to the REST API");
    describe_gauge!(OUTBOX_LIMIT, "rows in the outbox at which nothing more is committed");
    describe_history();
}

fn describe_history() {
    describe_counter!(
        PRUNED_ROWS,
        "landed rows that left because they were old and superseded, by table"
    );
    describe_counter!(
        PRUNING_ERRORS,
        "times that old rows could not leave a landing table, by table"
    );
    describe_counter!(CHECKPOINT_ERRORS, "checkpoints that could not be written");
    describe_counter!(
        SKIPPED_CHECKPOINTS,
        "epochs that are in no checkpoint, because the storage was away for too long"
    );
    describe_gauge!(
        ACCEPTED_LOST_EPOCHS,
        "committed epochs that the database had lost, and whose loss was accepted"
    );
}

fn describe_sql() {
    describe_counter!(
        LEFT_OUT_ROWS,
        "rows that a result does not show because their key is NULL or another row has it, by result and reason"
    );
    describe_counter!(SQL_EDITS, "edits of the SQL files, by outcome: taken or refused");
    describe_gauge!(
        EDIT_REFUSED,
        "1 while the SQL files are others than those that run, because they are refused"
    );
    describe_counter!(
        SQL_PLANS,
        "how often the SQL files were planned: at the start, and for an edit"
    );
}

fn describe_memory() {
    describe_gauge!(STATE_ROWS, "current rows in memory, by table");
    describe_gauge!(STATE_BYTES, "bytes of the current rows in memory, by table");
    describe_gauge!(STATE_DISK_BYTES, "bytes of the files of rows that are not in memory");
    describe_gauge!(UPKEEP_BYTES, "bytes that keeping a result up to date takes, by result");
    describe_gauge!(LOOKUP_ROWS, "rows that show or await one of a look-up table, by view");
    describe_gauge!(LOOKUP_VERSIONS, "different rows of look-up tables that are shown, by view");
    describe_gauge!(LOOKUP_BYTES, "bytes that keeping what rows show takes, by view");
}

fn describe_documents() {
    describe_counter!(UNREAD_DOCUMENTS, "XML documents that could not be read, by extracted table");
    describe_counter!(
        UNREAD_VALUES,
        "values in XML that are not of their column's type, by extracted table: the default or NULL is in place"
    );
    describe_counter!(
        UNREAD_ATTRIBUTES,
        "attributes of the rows in XML that no column of the mapping reads, by extracted table"
    );
}

fn describe_queue() {
    describe_gauge!(
        PRESSURE,
        "fill of the receive buffer: 0 below 70 %, 1 larger batches, 2 from 85 % on, 3 flow stopped from 95 % on"
    );
    describe_gauge!(HEARTBEAT, "when the consumer took messages, or looked for some, last");
    describe_gauge!(READY, "1 if /ready says that it is");
    describe_gauge!(QUEUE_MESSAGES, "messages in the source's queue, as the broker says");
    describe_gauge!(QUEUE_UNACKED, "messages of the queue that are delivered and not acknowledged");
    describe_gauge!(QUEUE_BYTES, "bytes of the messages in the queue");
    describe_gauge!(QUEUE_TOLD, "1 if the broker's management interface answered last time");
}

fn describe_dead_letters() {
    describe_counter!(
        DEAD_LETTERS,
        "events, rows of results and requests that are dead letters, by error type"
    );
    describe_counter!(
        REPLAYED,
        "dead letters of events processed again, by outcome: replayed, superseded, failed, not_tried"
    );
    describe_counter!(PUBLISHED_LETTERS, "dead letters that the broker has stored");
    describe_gauge!(OPEN_LETTERS, "dead letters that are neither replayed nor superseded");
    describe_gauge!(OLDEST_LETTER, "since the first failure of the oldest of these; 0 without any");
}

fn describe_faults() {
    describe_gauge!(
        WAITING,
        "1 for a transform that waits for a column, a table or its target, by result"
    );
    describe_gauge!(
        BREAKER_STATE,
        "circuit breaker of a target, by target and use: 0 closed, 1 half-open, 2 open"
    );
    describe_counter!(
        REFUSED_ROWS,
        "rows that the target refused and that are dead letters instead, by table"
    );
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    /// All words of a text that are names of our metrics by their form.
    fn mentioned(text: &str) -> BTreeSet<&str> {
        let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let of_ours = words.filter(|word| word.starts_with("cdc_"));
        of_ours.map(|word| word.strip_suffix("_bucket").unwrap_or(word)).collect()
    }

    #[test]
    fn alerts_are_about_metrics_that_there_are() {
        let mut ours = mentioned(include_str!("names.rs"));
        ours.extend(mentioned(include_str!("../../crates/solace/src/names.rs")));
        let alerts = mentioned(include_str!("../../docker/alerts.yml"));
        assert!(alerts.len() >= 5, "{alerts:?}");
        let unknown: Vec<_> = alerts.difference(&ours).collect();
        assert!(unknown.is_empty(), "{unknown:?}");
    }
}
