//! An epoch of all views: begun, kept, or taken back.

use super::dataflow::EpochStep;
use super::error::TransformError;
use super::transforms::Transforms;

impl Transforms {
    /// From here on everything can be taken back, until the epoch is kept by [`Self::commit_epoch`].
    ///
    /// # Errors
    /// None of those that rows cause.
    pub fn begin_epoch(&mut self) -> Result<(), TransformError> {
        self.watermark_before = self.watermark;
        self.step(EpochStep::Begin)
    }

    /// What was done since the epoch began stays.
    ///
    /// # Errors
    /// As [`Self::begin_epoch`].
    pub fn commit_epoch(&mut self) -> Result<(), TransformError> {
        self.step(EpochStep::Commit)
    }

    /// Makes every view what it was when the epoch began.
    ///
    /// # Errors
    /// As [`Self::begin_epoch`]. The views are not to be used further then.
    pub fn abort_epoch(&mut self) -> Result<(), TransformError> {
        self.watermark = self.watermark_before;
        self.watermark_cell.set(self.watermark);
        self.live.clear();
        self.step(EpochStep::Abort)
    }

    fn step(&mut self, step: EpochStep) -> Result<(), TransformError> {
        self.views.iter_mut().try_for_each(|view| view.step(step))
    }
}
