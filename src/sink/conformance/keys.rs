//! Keys that are deleted and written again.

use super::stage::{KEYED, QUEUE, Stage, epoch, texts};

pub(super) async fn a_key_that_comes_back_ends_as_it_says(stage: &mut dyn Stage) {
    let mut sink = stage.sink(QUEUE).await;
    let commits = [
        epoch(1).upserted(1, "first").upserted(2, "stays").upserted(3, "goes"),
        epoch(2).removed(1).removed(3).removed(99),
        epoch(3).upserted(1, "second").upserted(2, "stays, changed"),
    ];
    for commit in commits {
        sink.commit(&commit.build()).await.expect("the epoch is committed");
    }
    assert_eq!(
        stage.rows(KEYED, &["order_id", "status"]).await,
        texts(&[&["1", "second"], &["2", "stays, changed"]])
    );
}
