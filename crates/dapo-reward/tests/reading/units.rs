//! Words after a value: plain nouns are units, words that change the value are none.

use super::{different, equal};

#[test]
fn plain_nouns_are_units() {
    for unit in ["apples", "square feet", "cookies per box", "km/h", "boxes of pencils", "points", "cm^2"] {
        equal(&[("72", &format!(r"72\text{{ {unit}}}"))]);
        different(&[("72", &format!(r"73\text{{ {unit}}}"))]);
    }
}

#[test]
fn words_that_change_a_value_are_no_units() {
    for words in [
        "squared",
        "cubed",
        "factorial",
        "doubled",
        "halved",
        "dozens",
        "pairs",
        "tens",
        "hundreds",
        "thousands",
        "millions of dollars",
        "million dollars",
        "k",
        "lakh",
        "gross",
        "hours 5 minutes",
        "boys, 30 girls",
        "remainder 3",
        "R 3",
        "each, 144 total",
        "per day, so 504 per week",
        "short of 100",
        "below zero",
        "more than that",
        "less than 100",
        "(rejected)",
        "incorrect",
        "wrong",
        "extraneous",
        "fold",
    ] {
        different(&[("72", &format!(r"72\text{{ {words}}}"))]);
    }
    for words in ["的倒数", "的相反数", "的平方", "错误", "‰", "的平方根"] {
        different(&[("36", &format!("36{words}"))]);
    }
}

#[test]
fn multipliers_multiply() {
    equal(&[
        ("72000000", r"72\text{ millions of dollars}"),
        ("864", r"72\text{ dozens}"),
        ("7200000", r"72\text{ lakh}"),
        ("0.036", "36‰"),
        (r"12\text{ pairs}", "12"),
        ("2 hours 15 minutes", r"2\text{ hours 15 minutes}"),
        ("135 minutes", r"2\text{ hours 15 minutes}"),
    ]);
    different(&[("72", r"72\text{ thousand million}"), ("2 hours 15 minutes", r"2\text{ hours 16 minutes}")]);
}

#[test]
fn metric_prefixes_count() {
    equal(&[
        (r"6\text{ MHz}", r"6000\text{ kHz}"),
        (r"10\text{ kW}", r"10000\text{ W}"),
        (r"5\text{ kJ}", r"5000\text{ J}"),
        ("5 kPa", "5000 Pa"),
        (r"4\text{ mol}", r"4000\text{ mmol}"),
        (r"500\text{ nm}", r"0.5\text{ µm}"),
        (r"3\text{ mA}", r"0.003\text{ A}"),
        (r"5\text{ kW}", r"5\text{ kilowatts}"),
        (r"5\text{ N}", r"5\text{ kg m/s}^2"),
        (r"3\text{ liters}", r"3000\text{ mL}"),
        (r"5\text{ kg}", r"5\text{ kg of apples}"),
        (r"5\text{ m}^2", r"5\text{ meters squared}"),
        ("5", r"5\text{ kW}"),
    ]);
    different(&[
        (r"6\text{ MHz}", r"6\text{ kHz}"),
        (r"10\text{ kW}", r"10\text{ W}"),
        (r"5\text{ kJ}", r"5\text{ J}"),
        (r"5\text{ mJ}", r"5\text{ MJ}"),
        ("5 kPa", "5 Pa"),
        (r"4\text{ mol}", r"4\text{ mmol}"),
        (r"500\text{ nm}", r"500\text{ m}"),
        (r"3\text{ ms}", r"3\text{ ns}"),
        (r"3\text{ mL}", r"3\text{ ML}"),
        (r"3\text{ mV}", r"3\text{ kV}"),
        (r"5\text{ m}", r"5\text{ meters squared}"),
    ]);
}

#[test]
fn known_measures_convert_or_differ() {
    equal(&[
        (r"1\text{ gallon}", r"4\text{ quarts}"),
        (r"2\text{ yards}", r"6\text{ feet}"),
        (r"1\text{ stone}", r"14\text{ pounds}"),
        (r"1\text{ furlong}", r"220\text{ yards}"),
        (r"2\text{ tons}", r"4000\text{ pounds}"),
        (r"1\text{ gram}", r"5\text{ carats}"),
        (r"1\text{ kg}", r"1000\text{ g}"),
    ]);
    for unit in ["tons", "carats", "stone", "furlongs", "yards", "pints", "quarts", "gallons", "widgets", "boxes"] {
        different(&[(r"5\text{ kg}", &format!(r"5\text{{ {unit}}}"))]);
    }
    different(&[(r"5\text{ km}", r"5\text{ nautical miles}")]);
}

#[test]
fn angles_and_temperatures_keep_their_unit() {
    equal(&[
        (r"30^\circ", "30"),
        (r"30^\circ", r"\frac{\pi}{6}\text{ rad}"),
        (r"\frac{\pi}{6}", r"\frac{\pi}{6}\text{ radians}"),
        (r"90^\circ", r"100\text{ gradians}"),
        (r"25^\circ C", r"25\text{ degrees Celsius}"),
        (r"25^\circ C", r"25^\circ\text{ Celsius}"),
    ]);
    different(&[
        (r"30^\circ", r"30\text{ rad}"),
        (r"30^\circ", r"30\text{ radians}"),
        (r"30\text{ rad}", r"30^\circ"),
        (r"30^\circ", r"30\%"),
        (r"20\%", r"20\text{ degrees}"),
        (r"30^\circ", r"30\text{ gradians}"),
        (r"25^\circ C", r"25\text{ degrees Fahrenheit}"),
        (r"77\text{ degrees Fahrenheit}", r"77^\circ C"),
        (r"25^\circ C", r"25\text{ K}"),
    ]);
}

#[test]
fn a_unit_may_stand_outside_the_formula() {
    equal(&[
        ("$20$ m/s", "20"),
        ("$20$ m/s", r"20\text{ m/s}"),
        ("$20$ m/s", r"72\text{ km/h}"),
        ("$9.8$ N", r"9.8\text{ N}"),
        ("$5$ m", "5"),
    ]);
    different(&[("$20$ m/s", r"20\text{ km/h}"), ("$5$ m", "6"), ("$5$ m", r"5\text{ cm}"), ("$9.8$ N", "9.9")]);
}

#[test]
fn parts_of_the_day_are_halves() {
    equal(&[
        ("9:30 a.m.", "9:30 in the morning"),
        ("9:30 p.m.", "9:30 at night"),
        ("9:30 p.m.", r"9:30\text{ in the evening}"),
        ("3 a.m.", "3 in the morning"),
        ("12:00 p.m.", "12:00 noon"),
        ("12:00 a.m.", "12:00 midnight"),
    ]);
    different(&[
        ("9:30 a.m.", "9:30 at night"),
        ("9:30 a.m.", r"9:30\text{ in the evening}"),
        ("9:30 p.m.", "9:30 in the morning"),
        ("3 p.m.", "3 in the morning"),
        ("12:00 noon", "12:00 midnight"),
        ("9:30 a.m.", "9:31 in the morning"),
    ]);
}
