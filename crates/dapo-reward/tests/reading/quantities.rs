//! Units, currencies, times of day and what stands around a value.

use super::{different, equal};

#[test]
fn times_of_day_are_no_ratios() {
    equal(&[
        ("2:3", "4:6"),
        ("10:30", "10:30"),
        ("9:05", "09:05"),
        ("3:30 p.m.", "3:30 PM"),
        ("3:30 p.m.", "15:30"),
        ("3:30 p.m.", r"3:30\text{ p.m.}"),
        ("3 p.m.", r"3 \text{ PM}"),
        ("3 p.m.", r"3:00 \text{PM}"),
        ("3:2", "6:4"),
        (r"\frac{1}{12}", "1:12"),
        ("3:2", "1.5"),
    ]);
    different(&[
        ("9:00", "5:00"),
        ("12:00", "6:00"),
        ("15:00", "12:00"),
        ("7:30", "14:60"),
        ("3:45", "1:15"),
        ("0:0", "1:2"),
        ("5:0", "3:0"),
        ("1:30", "2:60"),
        ("3:30 p.m.", "3:30 a.m."),
        ("3 p.m.", "3 am"),
        ("3 p.m.", "4 p.m."),
    ]);
}

#[test]
fn units_follow_any_value() {
    equal(&[
        (r"2\pi", r"2\pi cm"),
        (r"12\pi", r"12\pi cm^2"),
        (r"12\pi", "12π cm²"),
        ("5", "5 m/s"),
        ("5", "5 km/h"),
        ("5", "5 m^2"),
        ("5", "5 m"),
        ("5", r"5\ \mathrm{m\,s^{-1}}"),
        ("5", r"5\,\mathrm{J/(kg\cdot K)}"),
        ("5", r"5\,\mathrm{J}"),
        (r"3920 \mathrm{~N}-\mathrm{m}", "3920"),
        ("5", "5 kg·m/s^2"),
        (r"5\text{ m/s}", "5 m/s"),
        ("18 km/h", "5 m/s"),
        ("5m", r"m\cdot 5"),
        (r"2\sqrt3", r"2\sqrt{3} cm"),
        (r"7.5 \text{ ft-lb}", "7.5"),
    ]);
    different(&[
        ("18 km/h", "18 m/s"),
        ("5 cm", "5 s"),
        ("5", "6 m/s"),
        (r"2\pi", r"3\pi cm"),
        ("5", "5x"),
        ("5", "5xy"),
        ("5", "5m"),
        ("5m^2", "5"),
    ]);
}

#[test]
fn currencies_stand_before_or_after() {
    equal(&[
        ("5", "USD 5"),
        ("5", "Rs. 5"),
        ("5", r"\text{Rs. }5"),
        ("5", "5¢"),
        ("5", r"\pounds 5"),
        ("5", r"\text{\$}5"),
        ("5", r"US\$5"),
        ("5", "5 EUR"),
        ("5", "€5"),
        (r"0.05 \text{ dollars}", "5¢"),
        ("5", "¥5"),
        ("USD 5", r"5 \text{ dollars}"),
    ]);
    different(&[(r"5 \text{ dollars}", "5 EUR"), ("5", "USD 6"), ("USD 5", "Rs. 5")]);
}

#[test]
fn a_unit_may_stand_in_parentheses() {
    equal(&[
        ("9 (apples)", "9"),
        ("9 (apples)", r"9 \text{ apples}"),
        ("3/4 (pizza)", "0.75"),
        ("9", "9 (cm)"),
        ("9", r"9\text{ (apples)}"),
        ("12", "12 (square units)"),
        ("f(x)", "f (x)"),
    ]);
    different(&[("9 (apples)", "10"), ("9", "9 (or 10)"), ("9", "9 (a)"), ("9", "8 (apples)")]);
}

#[test]
fn approximately_before_a_value() {
    equal(&[
        (r"\sqrt{2}-1", r"\approx 0.414214"),
        (r"\sqrt{2}-1", "≈ 0.414214"),
        (r"\approx 24.33^{\circ} \mathrm{F}", "24.33"),
        (r"\approx 15.15^{\circ} \mathrm{F}", r"15.15^\circ\text{F}"),
        ("72", "about 72"),
        ("72", r"\text{approximately } 72"),
        ("72", r"\sim 72"),
        ("72", "=72"),
        (r"2\sqrt3", r"2\sqrt{3} (\approx 3.46)"),
        (r"2\sqrt3", r"2\sqrt{3} \approx 3.46"),
    ]);
    different(&[(r"\approx 24.33", "24.34"), (r"2\sqrt3", r"2\sqrt{3} (\approx 3.56)"), (r"2\sqrt3", r"\approx 3.56")]);
}

#[test]
fn quantities_in_two_units_are_one() {
    equal(&[
        ("210 minutes", r"3 \text{ hours and } 30 \text{ minutes}"),
        ("66 inches", r"5 \text{ feet } 6 \text{ inches}"),
        ("210 minutes", "3 hours 30 minutes"),
        (r"3.5 \text{ hours}", "3 hours and 30 minutes"),
        ("3.5", "3 hours 30 minutes"),
        ("72", "72 dollars and 0 cents"),
        ("3, 30", "3 and 30"),
        ("210分钟", "3小时30分钟"),
    ]);
    different(&[("210 minutes", "3 hours 20 minutes"), ("66 inches", "5 feet 7 inches")]);
}

#[test]
fn units_and_quantities_of_many_kinds_are_read() {
    equal(&[
        ("10^{-3}", "10^{-3} mol"),
        ("5", "5 percent"),
        (r"30^\circ", "30 degrees"),
        ("45", r"45 \text{ km}/\text{h}"),
        ("12.5", r"12.5 \text{ g/cm}^3"),
        ("12.5", r"12.5 \, \text{g} \cdot \text{cm}^{-3}"),
        ("1:30", "1:30"),
        (r"63^\circ 45' 36''", r"63.76^\circ"),
        ("y''+y=0", r"y^{\prime \prime}+y=0"),
        ("f'''(x)", r"f^{\prime\prime\prime}(x)"),
        ("f'(0)", r"f^\prime(0)"),
        ("2.5", "5./2"),
        ("2", "2."),
        ("3", "3rd"),
        ("3", r"\text{3rd}"),
        ("3", r"3^{\text{rd}}"),
        (r"2 \text{ h } 15 \text{ min}", r"135 \text{ min}"),
        ("2 years 6 months", "2.5 years"),
        ("5 pounds 4 ounces", "84 ounces"),
        ("1 hour, 20 minutes", "80 minutes"),
        (r"90 \text{ seconds}", r"1 \text{ minute } 30 \text{ seconds}"),
        ("1 day 6 hours", "30 hours"),
        ("5 dollars 25 cents", "5.25"),
        (r"\$5.25", "5 dollars and 25 cents"),
        (r"3 \mod 7", r"3 \text{ mod } 7"),
        (r"3 \pmod 7", r"3 \ (\mathrm{mod}\ 7)"),
        (r"x \equiv 3 \pmod{7}", r"x \equiv 3 \mod 7"),
        (r"x \equiv 3 \pmod{7}", r"x \equiv 10 \pmod 7"),
        ("x_1=2, x_2=3, x_3=4", "x=2, x=3, x=4"),
        ("x_{1}=2, x_{2}=3", r"x=2 \text{ or } 3"),
        ("z_1=i, z_2=-i", r"z=\pm i"),
        ("x=2,3", "x_1=2,x_2=3"),
        ("x_1=-1, x_2=3", r"x \in \{-1,3\}"),
        (r"x_{1,2}=1\pm\sqrt2", r"x=1\pm\sqrt2"),
    ]);
}
