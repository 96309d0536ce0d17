//! Overload: what a proxy stops doing, and in which order, as memory or file descriptors run short.

/// What is given up. Each level includes those before it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Nothing.
    #[default]
    Normal,
    /// Connections are not kept alive.
    NoKeepAlive,
    /// New requests are answered with 503.
    Shed,
    /// New connections wait.
    StopAccepting,
}

/// Share of a resource, in percent, at which each level begins.
const STEPS: [(Level, u64); 3] = [(Level::StopAccepting, 95), (Level::Shed, 90), (Level::NoKeepAlive, 85)];
/// A level ends so many percent below its beginning, so that it does not flutter.
const HYSTERESIS: u64 = 3;

impl Level {
    /// The level that follows this one when `used` of `max` is in use.
    pub fn next(self, used: u64, max: u64) -> Self {
        let percent = if max == 0 { 0 } else { u64::try_from(u128::from(used) * 100 / u128::from(max)).unwrap_or(u64::MAX) };
        let begun = |(level, at): &(Self, u64)| percent >= if self >= *level { at - HYSTERESIS } else { *at };
        STEPS.iter().find(|step| begun(step)).map_or(Self::Normal, |(level, _)| *level)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_begin_in_order_and_end_a_little_lower() {
        let follow = |uses: &[u64]| {
            let mut level = Level::Normal;
            uses.iter()
                .map(|used| {
                    level = level.next(*used, 100);
                    level
                })
                .collect::<Vec<_>>()
        };
        use Level::{NoKeepAlive as Close, Normal, Shed, StopAccepting as Stop};
        assert_eq!(follow(&[10, 84, 85, 90, 95, 100]), [Normal, Normal, Close, Shed, Stop, Stop]);
        assert_eq!(follow(&[100, 93, 92, 91, 88, 86, 82, 81]), [Stop, Stop, Stop, Shed, Shed, Close, Close, Normal]);
        assert_eq!(Level::Normal.next(u64::MAX, u64::MAX), Stop);
        assert_eq!(Stop.next(7, 0), Normal, "no limit");
    }
}
