//! Back-pressure: how full the receive buffer is, as metrics and alerts.

use metrics::{counter, gauge};
use tracing::{info, warn};

use crate::names;

/// How much of a receive buffer may be in use before something is done about it, in percent.
const STEPS: [(usize, Pressure); 3] =
    [(70, Pressure::Warning), (85, Pressure::Alert), (95, Pressure::Stopped)];

/// The back-pressure ladder: what the fill of a source's receive buffer asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pressure {
    Normal,
    /// Messages come faster than they are processed: batches grow, which costs less per message.
    Warning,
    /// Somebody should look; a generator that heeds it pauses.
    Alert,
    /// The flow is stopped, and the broker keeps the rest.
    Stopped,
}

impl Pressure {
    /// Of a buffer for `room` messages that holds `messages`.
    pub fn of(messages: usize, room: usize) -> Self {
        let step = STEPS.iter().rev().find(|(percent, _)| messages * 100 >= room.max(1) * percent);
        step.map_or(Self::Normal, |(_, pressure)| *pressure)
    }
}

/// Says how the pressure changes: as metrics each time, in the log once for each time that it builds up.
#[derive(Debug)]
pub struct PressureGauge {
    /// The highest since it was normal.
    told: Pressure,
}

impl PressureGauge {
    pub fn new() -> Self {
        gauge!(names::PRESSURE).set(0.0);
        Self { told: Pressure::Normal }
    }

    pub fn show(&mut self, messages: usize, room: usize) {
        let pressure = Pressure::of(messages, room);
        gauge!(names::PRESSURE).set(f64::from(pressure as u8));
        let was = self.told;
        if pressure == Pressure::Normal {
            self.told = Pressure::Normal;
            if was > Pressure::Normal {
                info!(messages, room, "messages are processed as fast as they come again");
            }
            return;
        }
        self.told = was.max(pressure);
        if was < Pressure::Warning {
            warn!(messages, room, "messages come faster than they are processed: larger batches");
        }
        if was < Pressure::Alert && pressure >= Pressure::Alert {
            counter!(names::ALERTS, "kind" => "back_pressure").increment(1);
            warn!(
                alert = "back_pressure",
                messages,
                room,
                "the receive buffer is about full; beyond it the flow stops and messages stay in the queue"
            );
        }
    }
}

impl Default for PressureGauge {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_step_begins_at_its_share_of_the_buffer() {
        let of = |messages| Pressure::of(messages, 1000);
        assert_eq!((of(0), of(699)), (Pressure::Normal, Pressure::Normal));
        assert_eq!((of(700), of(849)), (Pressure::Warning, Pressure::Warning));
        assert_eq!((of(850), of(949)), (Pressure::Alert, Pressure::Alert));
        assert_eq!((of(950), of(5000)), (Pressure::Stopped, Pressure::Stopped));
        assert_eq!(Pressure::of(1, 1), Pressure::Stopped);
        assert_eq!(Pressure::of(0, 0), Pressure::Normal);
    }

    #[test]
    fn it_is_told_once_each_time_that_it_builds_up() {
        let mut gauge = PressureGauge::new();
        let told = |gauge: &mut PressureGauge, messages| {
            gauge.show(messages, 100);
            gauge.told
        };
        assert_eq!(told(&mut gauge, 75), Pressure::Warning);
        assert_eq!(told(&mut gauge, 96), Pressure::Stopped);
        // Going down by a step, and up again, is no news.
        assert_eq!(told(&mut gauge, 71), Pressure::Stopped);
        assert_eq!(told(&mut gauge, 10), Pressure::Normal);
        assert_eq!(told(&mut gauge, 86), Pressure::Alert);
    }
}
