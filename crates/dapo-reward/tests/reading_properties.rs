//! What the reader takes for a value, with the numbers drawn at random: equal to itself re-written, never to a changed one.

use dapo_reward::is_equivalent;
use proptest::prelude::*;

fn holds(condition: bool) -> Result<(), TestCaseError> {
    prop_assert!(condition);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_time_of_day_equals_no_other(hour in 0_u32..24, minute in 0_u32..60, other_hour in 0_u32..24, other_minute in 0_u32..60) {
        let (one, other) = (format!("{hour}:{minute:02}"), format!("{other_hour}:{other_minute:02}"));
        holds(is_equivalent(&one, &other) == ((hour, minute) == (other_hour, other_minute)))?;
        let half = |hour: u32, minute: u32| {
            format!("{}:{minute:02} {}", (hour + 11) % 12 + 1, if hour < 12 { "a.m." } else { "p.m." })
        };
        holds(is_equivalent(&one, &half(hour, minute)))?;
        let equal = is_equivalent(&half(hour, minute), &half(other_hour, other_minute));
        holds(equal == ((hour, minute) == (other_hour, other_minute)))?;
    }

    #[test]
    fn a_name_is_met_by_its_value_only(value in 2_i64..500, by in 1_i64..9, at in 0_usize..100) {
        let names = [
            "P(A|B)", "P(X=2)", "n(A\\cup B)", "\\lim_{x\\to0}f(x)", "\\sum a_i", "\\|\\mathbf{v}\\|", "\\frac{dy}{dx}",
            "\\text{Var}(X)", "f^{-1}(3)", "f'(2)", "d(P,Q)", "\\dim V", "x", "m+n", "AB^2",
        ];
        let name = names[at % names.len()];
        let written = format!("{name} = {value}");
        holds(is_equivalent(&value.to_string(), &written))?;
        holds(is_equivalent(&written, &format!("{name}={value}")))?;
        holds(!is_equivalent(&(value + by).to_string(), &written))?;
        holds(!is_equivalent(&(-value).to_string(), &written))?;
        holds(!is_equivalent(&written, &format!("{name} = {}", value + by)))?;
    }

    #[test]
    fn an_equation_is_not_its_right_side(a in 1_i64..9, b in 1_i64..9, c in 0_i64..50) {
        for equation in [format!("ax+by={c}"), format!("{a}x+{b}y={c}"), format!("x^2-{a}x+{b}={c}"), format!("x^2+y^2={c}"), format!("{}x={c}", a + 1)] {
            holds(!is_equivalent(&c.to_string(), &equation))?;
        }
    }

    #[test]
    fn a_unit_does_not_change_the_value(value in 1_i64..1_000, by in 1_i64..9, at in 0_usize..100) {
        let written = [
            format!("{value} cm"), format!("{value} m/s"), format!("{value}\\ \\mathrm{{m\\,s^{{-1}}}}"), format!("{value} (apples)"),
            format!("{value}元"), format!("USD {value}"), format!("\\pounds {value}"), format!("{value}¢"), format!("\\approx {value}"),
            format!("{value} kg·m/s^2"), format!("{value}个"),
        ];
        let one = &written[at % written.len()];
        holds(is_equivalent(&value.to_string(), one))?;
        holds(!is_equivalent(&(value + by).to_string(), one))?;
        let digits: String = value.to_string().chars().map(|c| char::from_u32(u32::from(c) + 0xfee0).unwrap_or(c)).collect();
        holds(is_equivalent(&value.to_string(), &digits))?;
        holds(!is_equivalent(&(value + by).to_string(), &digits))?;
    }

    #[test]
    fn a_numeral_factor_multiplies(a in 2_i64..9, b in 2_i64..9, n in 1_u32..9) {
        holds(is_equivalent(&format!("(n-{a}) {b}^{{n}}+{n}"), &format!("{n}+(n-{a})\\cdot {b}^n")))?;
        holds(!is_equivalent(&format!("(n-{a}) {b}^{{n}}+{n}"), &format!("(n-{a})\\cdot {}^n+{n}", b + 1)))?;
        holds(is_equivalent(&format!("\\frac{{1}}{{{a}}} {b}^n"), &format!("\\frac{{{b}^n}}{{{a}}}")))?;
        holds(!is_equivalent(&(a * b).to_string(), &format!("{a} {b}")))?;
    }

    #[test]
    fn a_distance_below_a_bound_is_an_interval(center in -9_i64..9, bound in 1_i64..9, by in 1_i64..4) {
        let condition = format!("|x-({center})|<{bound}");
        holds(is_equivalent(&format!("({},{})", center - bound, center + bound), &condition))?;
        holds(!is_equivalent(&format!("[{},{}]", center - bound, center + bound), &condition))?;
        holds(!is_equivalent(&format!("({},{})", center - bound, center + bound + by), &condition))?;
        let both = format!("x > {center}, x < {}", center + bound);
        holds(is_equivalent(&format!("({center},{})", center + bound), &both))?;
    }

    #[test]
    fn sums_are_what_they_add_up_to(low in 0_i64..5, length in 1_i64..20, by in 1_i64..5) {
        let high = low + length;
        let total: i64 = (low..=high).map(|k| k * k + 1).sum();
        let written = format!("\\sum_{{k={low}}}^{{{high}}}(k^2+1)");
        holds(is_equivalent(&total.to_string(), &written))?;
        holds(!is_equivalent(&(total + by).to_string(), &written))?;
    }

    #[test]
    fn a_numeral_in_a_base_is_its_value_or_its_digits(value in 64_u32..4_000, base in 2_u32..9) {
        let mut digits = String::new();
        let mut rest = value;
        while rest > 0 {
            digits.insert(0, char::from_digit(rest % base, 10).unwrap_or('0'));
            rest /= base;
        }
        let written = format!("{digits}_{{{base}}}");
        holds(is_equivalent(&value.to_string(), &written))?;
        holds(is_equivalent(&digits, &written))?;
        holds(!is_equivalent(&written, &format!("{digits}_{{{}}}", base + 1)))?;
        holds(!is_equivalent(&format!("{}", value + 1), &written) || digits == (value + 1).to_string())?;
    }
}
