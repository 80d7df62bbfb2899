//! Waits for the generator, and limits how long the benchmark waits for the processor.

use std::time::{Duration, Instant};

use anyhow::bail;
use tokio::process::Child;

const PATIENCE: Duration = Duration::from_secs(600);

pub(super) async fn finished(mut generator: Child) -> anyhow::Result<()> {
    let status = generator.wait().await?;
    if !status.success() {
        bail!("the generator failed; see generate.log");
    }
    Ok(())
}

pub(super) fn check(processor: &mut Child, started: Instant) -> anyhow::Result<()> {
    if let Some(status) = processor.try_wait()? {
        bail!("the processor ended ({status}); see run.log");
    }
    if started.elapsed() > PATIENCE {
        bail!("not done after {} s; see run.log", PATIENCE.as_secs());
    }
    Ok(())
}
