use tidemark::transform::SqlFile;

use crate::stage::play;
use crate::stream::Epoch;

/// A stream that still fails, from which no single epoch or change can be left out.
pub(crate) async fn minimize(files: &[SqlFile], mut epochs: Vec<Epoch>) -> Vec<Epoch> {
    loop {
        let before = size(&epochs);
        for at in (0..epochs.len()).rev() {
            let mut fewer = epochs.clone();
            fewer.remove(at);
            keep_if_failing(files, &mut epochs, fewer).await;
        }
        for at in 0..epochs.len() {
            for change in (0..epochs[at].changes.len()).rev() {
                let mut fewer = epochs.clone();
                fewer[at].changes.remove(change);
                keep_if_failing(files, &mut epochs, fewer).await;
            }
            let mut quieter = epochs.clone();
            quieter[at].is_restarted = false;
            keep_if_failing(files, &mut epochs, quieter).await;
        }
        if size(&epochs) == before {
            return epochs;
        }
    }
}

fn size(epochs: &[Epoch]) -> usize {
    epochs.iter().map(|epoch| 1 + epoch.changes.len() + usize::from(epoch.is_restarted)).sum()
}

async fn keep_if_failing(files: &[SqlFile], epochs: &mut Vec<Epoch>, fewer: Vec<Epoch>) {
    if play(files, &fewer).await.is_err() {
        *epochs = fewer;
    }
}
