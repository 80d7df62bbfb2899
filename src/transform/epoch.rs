//! An epoch of all views: begun, finished, then committed or taken back.

use super::dataflow::EpochStep;
use super::error::TransformError;
use super::transforms::Transforms;

impl Transforms {
    /// From here on everything can be taken back, until [`Self::commit_epoch`].
    ///
    /// # Errors
    /// None of those that rows cause.
    pub fn begin_epoch(&mut self) -> Result<(), TransformError> {
        self.watermarks_before.begin(self.watermark);
        self.step(EpochStep::Begin)
    }

    /// All of the epoch is computed; it waits for its commit.
    ///
    /// # Errors
    /// As [`Self::begin_epoch`].
    pub fn finish_epoch(&mut self) -> Result<(), TransformError> {
        self.watermarks_before.finish();
        self.step(EpochStep::Finish)
    }

    /// The oldest finished epoch stays for good.
    ///
    /// # Errors
    /// As [`Self::begin_epoch`].
    pub fn commit_epoch(&mut self) -> Result<(), TransformError> {
        self.watermarks_before.commit();
        self.step(EpochStep::Commit)
    }

    /// Makes every view what it was when the newest epoch began.
    ///
    /// # Errors
    /// As [`Self::begin_epoch`]. The views are not to be used further then.
    pub fn abort_epoch(&mut self) -> Result<(), TransformError> {
        if let Some(before) = self.watermarks_before.abort() {
            self.watermark = before;
        }
        self.watermark_cell.set(self.watermark);
        self.live.clear();
        self.step(EpochStep::Abort)
    }

    fn step(&mut self, step: EpochStep) -> Result<(), TransformError> {
        self.views.iter_mut().try_for_each(|view| view.step(step))
    }
}
