//! Seconds since 1970 as a date, for people.

/// `2036-11-18` in UTC. Gregorian calendar by eras of 400 years that begin on 1 March, so that the leap day comes last.
pub(crate) fn date(unix_s: u64) -> String {
    const DAYS_PER_ERA: u64 = 146_097;
    const DAYS_0000_03_01_TO_1970: u64 = 719_468;
    let days = unix_s / 86_400 + DAYS_0000_03_01_TO_1970;
    let (era, day) = (days / DAYS_PER_ERA, days % DAYS_PER_ERA);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day_of_year = day - (365 * year + year / 4 - year / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day_of_month = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day_of_month:02}")
}

#[cfg(test)]
mod tests {
    use super::date;

    #[test]
    fn dates() {
        for (unix_s, expected) in
            [(0, "1970-01-01"), (951_782_400, "2000-02-29"), (951_868_800, "2000-03-01"), (1_795_219_200, "2026-11-21")]
        {
            assert_eq!(date(unix_s), expected);
        }
    }
}
