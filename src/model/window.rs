//! Windows of equal length over an event time.

/// Windows of equal length over an event time, as `date_bin` and `date_trunc` make them. Microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Window {
    /// Always above 0; of calendar units the longest, as 31 days of a month.
    pub length: i64,
    /// Where one of them starts; `None` if that is not known, or their lengths differ.
    pub origin: Option<i64>,
}

impl Window {
    /// The earliest time that may be in one window with `time`.
    pub fn start(&self, time: i64) -> i64 {
        match self.origin {
            Some(origin) => {
                let into = (i128::from(time) - i128::from(origin)).rem_euclid(self.length.into());
                time.saturating_sub(into as i64)
            }
            None => time.saturating_sub(self.length),
        }
    }

    /// The latest time at which a window that `time` is in may end.
    pub fn end(&self, time: i64) -> i64 {
        match self.origin {
            Some(_) => self.start(time).saturating_add(self.length),
            None => time.saturating_add(self.length),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_starts_at_its_origin_and_never_later_than_the_time() {
        let window = Window { length: 10, origin: Some(3) };
        let windows = [3, 12, 13, 2, -7].map(|time| (window.start(time), window.end(time)));
        assert_eq!(windows, [(3, 13), (3, 13), (13, 23), (-7, 3), (-7, 3)]);
        assert_eq!(window.start(i64::MIN), i64::MIN);
        assert_eq!(window.end(i64::MAX), i64::MAX);
    }

    #[test]
    fn without_an_origin_any_alignment_is_possible() {
        let window = Window { length: 10, origin: None };
        assert_eq!((window.start(25), window.end(25)), (15, 35));
    }
}
