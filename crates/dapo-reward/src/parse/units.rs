//! Units of measure: which can be compared, and by what factor.

use dashu_ratio::RBig;

use crate::expr::{Constant, Expr};

/// Powers of length, mass, time, money, and an index that keeps kinds apart which do not convert.
type Dimension = [i8; 4];

/// A unit resolved to its dimension and its size in base units.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Unit {
    dimension: Dimension,
    /// Kinds that do not convert into each other although their dimension is the same.
    kind: Option<&'static str>,
    pub(crate) size: RBig,
}

impl Unit {
    /// Whether quantities in the two units can be compared.
    pub(crate) fn comparable(&self, other: &Unit) -> bool {
        self.dimension == other.dimension && self.kind == other.kind
    }

    fn multiply(&mut self, base: &Base, power: i8) -> Option<()> {
        for (total, part) in self.dimension.iter_mut().zip(base.dimension) {
            *total = total.checked_add(part.checked_mul(power)?)?;
        }
        self.size *= RBig::from_parts(base.size.0.into(), base.size.1.unsigned_abs().into()).pow(isize::from(power));
        Some(())
    }

    /// The unit's size in degrees, for a unit of angle.
    pub(crate) fn in_degrees(&self) -> Option<Expr> {
        match self.kind {
            Some("degree") => Some(Expr::rational(self.size.clone())),
            Some("radian") => {
                let half_turn = Expr::Constant(Constant::Pi).reciprocal();
                Some(Expr::Product(vec![Expr::integer(180), half_turn]))
            }
            _ => None,
        }
    }

    /// Whether angles or temperatures are measured in it.
    pub(crate) fn is_angle(&self) -> bool {
        matches!(self.kind, Some("radian" | "degree" | "celsius" | "fahrenheit"))
    }
}

struct Base {
    dimension: Dimension,
    kind: Option<&'static str>,
    size: (i64, i64),
}

const LENGTH: Dimension = [1, 0, 0, 0];
const VOLUME: Dimension = [3, 0, 0, 0];
const MASS: Dimension = [0, 1, 0, 0];
const TIME: Dimension = [0, 0, 1, 0];
const MONEY: Dimension = [0, 0, 0, 1];
const SPEED: Dimension = [1, 0, -1, 0];
const NONE: Dimension = [0; 4];

fn base(name: &str) -> Option<Base> {
    let of = |dimension, num, den| Some(Base { dimension, kind: None, size: (num, den) });
    let kind = |kind, num, den| Some(Base { dimension: NONE, kind: Some(kind), size: (num, den) });
    match name {
        "mm" | "毫米" | "millimeter" | "millimetre" => of(LENGTH, 1, 1_000),
        "cm" | "厘米" | "centimeter" | "centimetre" => of(LENGTH, 1, 100),
        "dm" | "分米" | "decimeter" | "decimetre" => of(LENGTH, 1, 10),
        "m" | "米" | "meter" | "metre" => of(LENGTH, 1, 1),
        "km" | "千米" | "公里" | "kilometer" | "kilometre" => of(LENGTH, 1_000, 1),
        "in" | "inch" | "inche" => of(LENGTH, 127, 5_000),
        "ft" | "foot" | "feet" => of(LENGTH, 381, 1_250),
        "yd" | "yard" => of(LENGTH, 1_143, 1_250),
        "mi" | "mile" => of(LENGTH, 201_168, 125),
        "l" | "升" | "liter" | "litre" => of(VOLUME, 1, 1_000),
        "ml" | "毫升" | "milliliter" | "millilitre" => of(VOLUME, 1, 1_000_000),
        "gallon" | "gal" => of(VOLUME, 473_176_473, 125_000_000_000),
        "quart" => of(VOLUME, 473_176_473, 500_000_000_000),
        "pint" => of(VOLUME, 473_176_473, 1_000_000_000_000),
        "cup" => of(VOLUME, 473_176_473, 2_000_000_000_000),
        "tablespoon" => of(VOLUME, 473_176_473, 32_000_000_000_000),
        "teaspoon" => of(VOLUME, 473_176_473, 96_000_000_000_000),
        "furlong" => of(LENGTH, 25_146, 125),
        "fathom" => of(LENGTH, 1_143, 625),
        "angstrom" => of(LENGTH, 1, 10_000_000_000),
        "micron" => of(LENGTH, 1, 1_000_000),
        "acre" => of([2, 0, 0, 0], 316_160_658, 78_125),
        "hectare" | "公顷" => of([2, 0, 0, 0], 10_000, 1),
        "tonne" | "吨" => of(MASS, 1_000_000, 1),
        "ton" => of(MASS, 45_359_237, 50),
        "stone" => of(MASS, 317_514_659, 50_000),
        "carat" => of(MASS, 1, 5),
        "mg" | "milligram" => of(MASS, 1, 1_000),
        "g" | "克" | "gram" | "gm" => of(MASS, 1, 1),
        "kg" | "千克" | "公斤" | "kilogram" => of(MASS, 1_000, 1),
        "lb" | "lbs" | "pound" => of(MASS, 45_359_237, 100_000),
        "oz" | "ounce" => of(MASS, 45_359_237, 1_600_000),
        "ms" | "millisecond" => of(TIME, 1, 1_000),
        "s" | "秒" | "sec" | "second" => of(TIME, 1, 1),
        "min" | "分钟" | "minute" => of(TIME, 60, 1),
        "h" | "小时" | "时" | "hr" | "hour" => of(TIME, 3_600, 1),
        "day" | "天" | "日" => of(TIME, 86_400, 1),
        "week" | "周" | "星期" => of(TIME, 604_800, 1),
        "fortnight" => of(TIME, 1_209_600, 1),
        "decade" => kind("year", 10, 1),
        "century" | "centurie" => kind("year", 100, 1),
        "month" | "个月" | "月" => kind("year", 1, 12),
        "year" | "年" | "yr" => kind("year", 1, 1),
        "mph" => of(SPEED, 201_168, 125 * 3_600),
        "kmh" | "kph" => of(SPEED, 1_000, 3_600),
        "dollar" | "usd" | "美元" | "$" | "buck" => of(MONEY, 1, 1),
        "cent" | "¢" => of(MONEY, 1, 100),
        "euro" | "eur" => kind("euro", 1, 1),
        "sterling" | "gbp" => kind("sterling", 1, 1),
        "yen" | "jpy" | "日元" => kind("yen", 1, 1),
        "rupee" | "rs" | "inr" => kind("rupee", 1, 1),
        "yuan" | "cny" | "rmb" | "元" | "人民币" => kind("yuan", 1, 1),
        "degree" | "度" | "deg" | "°" => kind("degree", 1, 1),
        "celsius" => kind("celsius", 1, 1),
        "fahrenheit" => kind("fahrenheit", 1, 1),
        "radian" | "rad" => kind("radian", 1, 1),
        "gradian" | "gon" | "grad" => kind("degree", 9, 10),
        "kelvin" => kind("kelvin", 1, 1),
        "knot" => of(SPEED, 463, 900),
        _ => physical(name),
    }
}

/// Units that metric prefixes are common before, by their names.
fn physical(name: &str) -> Option<Base> {
    let of = |dimension, num, den| Some(Base { dimension, kind: None, size: (num, den) });
    let kind = |kind| Some(Base { dimension: NONE, kind: Some(kind), size: (1, 1) });
    match name {
        "newton" => of([1, 1, -2, 0], 1_000, 1),
        "joule" => of(ENERGY, 1_000, 1),
        "calorie" => of(ENERGY, 4_184, 1),
        "watt-hour" => of(ENERGY, 3_600_000, 1),
        "watt" => of([2, 1, -3, 0], 1_000, 1),
        "pascal" => of([-1, 1, -2, 0], 1_000, 1),
        "volt" => kind("volt"),
        "ohm" => kind("ohm"),
        "hertz" => kind("hertz"),
        "amp" | "ampere" => kind("ampere"),
        "mole" => kind("mole"),
        "coulomb" => kind("coulomb"),
        "farad" => kind("farad"),
        "tesla" => kind("tesla"),
        "electronvolt" => kind("electronvolt"),
        "byte" => kind("byte"),
        _ => None,
    }
}

const ENERGY: Dimension = [2, 1, -2, 0];

/// The unit that a symbol stands for; capitals count.
fn spelled(symbol: &str) -> Option<&'static str> {
    Some(match symbol {
        "N" => "newton",
        "J" => "joule",
        "W" => "watt",
        "V" => "volt",
        "A" => "ampere",
        "K" => "kelvin",
        "C" => "celsius",
        "F" => "fahrenheit",
        "Hz" => "hertz",
        "Pa" => "pascal",
        "mol" => "mole",
        "eV" => "electronvolt",
        "Wh" => "watt-hour",
        "cal" => "calorie",
        "Ω" => "ohm",
        "hrs" => "hour",
        "mins" => "minute",
        "qt" => "quart",
        _ => return None,
    })
}

/// A metric prefix before a unit, and what follows it: `kHz`, `milliliters`.
fn prefixed(word: &str) -> Option<Base> {
    const NAMES: [(&str, i32); 9] = [
        ("nano", -9),
        ("micro", -6),
        ("milli", -3),
        ("centi", -2),
        ("deci", -1),
        ("hecto", 2),
        ("kilo", 3),
        ("mega", 6),
        ("giga", 9),
    ];
    let lower = word.to_lowercase();
    if let Some((rest, power)) = NAMES.iter().find_map(|(name, power)| Some((lower.strip_prefix(name)?, *power))) {
        let singular = rest.strip_suffix('s').unwrap_or(rest);
        let known = match singular {
            "meter" | "metre" | "gram" | "second" | "liter" | "litre" => base(singular),
            _ => physical(rest).or_else(|| physical(singular)),
        };
        return known.and_then(|base| base.times_ten_to(power));
    }
    let first = word.chars().next()?;
    let power = match first {
        'p' => -12,
        'n' => -9,
        'µ' | 'μ' => -6,
        'm' => -3,
        'c' => -2,
        'd' => -1,
        'k' | 'K' => 3,
        'M' => 6,
        'G' => 9,
        'T' => 12,
        _ => return None,
    };
    let rest = &word[first.len_utf8()..];
    let known = match rest {
        "m" | "s" | "g" if power < 0 => base(rest),
        "L" | "l" if power < 0 || first == 'M' => base("l"),
        "C" if power < 0 => physical("coulomb"),
        "F" if power < 0 => physical("farad"),
        "T" if power < 0 => physical("tesla"),
        "B" if power > 0 => physical("byte"),
        _ if matches!(first, 'c' | 'd') => None,
        _ => physical(spelled(rest)?),
    };
    known?.times_ten_to(power)
}

impl Base {
    fn times_ten_to(self, power: i32) -> Option<Self> {
        let factor = 10_i64.checked_pow(power.unsigned_abs())?;
        let (num, den) = self.size;
        let size = if power < 0 { (num, den.checked_mul(factor)?) } else { (num.checked_mul(factor)?, den) };
        Some(Self { size, ..self })
    }
}

/// Whether letters are a unit symbol with a metric prefix.
pub(crate) fn is_prefixed_symbol(letters: &str) -> bool {
    (2..=5).contains(&letters.len()) && prefixed(letters).is_some()
}

fn lookup(word: &str) -> Option<Base> {
    if let Some(name) = spelled(word) {
        return base(name);
    }
    // `ML` is no millilitre.
    let has_mark = word.chars().skip(1).any(char::is_uppercase) || !word.is_ascii();
    if has_mark && let Some(base) = prefixed(word) {
        return Some(base);
    }
    let lower = word.to_lowercase();
    base(&lower).or_else(|| base(lower.strip_suffix('s')?)).or_else(|| prefixed(word))
}

/// Whether a word of two letters or more names a unit of measure or a currency; two small letters may be a product.
pub(crate) fn is_measure(word: &str) -> bool {
    if word.len() < 2 || word == "in" {
        return false;
    }
    let lower = word.to_lowercase();
    let is_base = base(&lower).is_some() || lower.strip_suffix('s').is_some_and(|singular| base(singular).is_some());
    let is_told = word.len() > 2 || word.bytes().any(|byte| byte.is_ascii_uppercase());
    is_base || (is_told && prefixed(word).is_some()) || matches!(word, "square" | "cubic")
}

/// What the longest beginning of a phrase measures: kilograms in `kg of apples`.
pub(crate) fn resolve_beginning(phrase: &str) -> Option<Unit> {
    const LONGEST: usize = 6;
    let words: Vec<&str> = phrase.split_whitespace().take(LONGEST).collect();
    (1..=words.len()).rev().find_map(|length| resolve(&words[..length].join(" ")))
}

/// Whether words after a value name no thing at all.
pub(crate) fn is_neutral(phrase: &str) -> bool {
    phrase.split_whitespace().all(|word| {
        matches!(
            word,
            "unit" | "units" | "total" | "in" | "each" | "apiece" | "altogether" | "left" | "remaining" | "away"
        )
    })
}

/// Resolves a unit phrase such as `square feet`, `cm^2`, `miles per hour`, `m/s`. `None` when a word is not a unit of
/// measure: the phrase then says nothing about the value.
pub(crate) fn resolve(phrase: &str) -> Option<Unit> {
    let mut unit = Unit { dimension: NONE, kind: None, size: RBig::ONE };
    let spaced = phrase.replace('/', " / ").replace(['*', '·', '.', '{', '}', '~', '\\', ','], " ").replace("^ ", "^");
    let (mut divide, mut prefix_power, mut any) = (false, 1_i8, false);
    let mut last: Option<(Base, i8)> = None;
    let mut words = spaced.split_whitespace().peekable();
    while let Some(word) = words.next() {
        match word {
            "degree" | "degrees"
                if words.peek().is_some_and(|next| {
                    ["celsius", "fahrenheit", "c", "f", "kelvin"].iter().any(|scale| next.eq_ignore_ascii_case(scale))
                }) =>
            {
                continue;
            }
            // `meters squared`
            "squared" | "cubed" if let Some((base, sign)) = &last => {
                let more = if word == "squared" { 1 } else { 2 };
                if base.kind.is_some() {
                    return None;
                }
                unit.multiply(base, sign * more)?;
                last = None;
                continue;
            }
            "per" | "/" => {
                divide = true;
                continue;
            }
            "square" | "squared" | "sq" => {
                prefix_power = 2;
                continue;
            }
            "cubic" => {
                prefix_power = 3;
                continue;
            }
            _ => {}
        }
        let (name, power) = match word.split_once('^') {
            Some((name, power)) => (name, power.parse::<i8>().ok().filter(|power| (-3..=3).contains(power))?),
            None => match (word.strip_prefix("平方"), word.strip_prefix("立方")) {
                (Some(name), _) => (name, 2),
                (_, Some(name)) => (name, 3),
                _ => (word, prefix_power),
            },
        };
        prefix_power = 1;
        let base = lookup(name)?;
        let power = if divide { -power } else { power };
        if let Some(kind) = base.kind {
            if unit.kind.is_some() || power != 1 {
                return None;
            }
            unit.kind = Some(kind);
        }
        unit.multiply(&base, power)?;
        last = Some((base, power.signum()));
        any = true;
    }
    any.then_some(unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phrases_resolve_to_a_dimension_and_a_size() {
        let meters = resolve("m").unwrap();
        assert!(meters.comparable(&resolve(" kilometers").unwrap()));
        assert!(!meters.comparable(&resolve("square meters").unwrap()));
        assert_eq!(resolve("km").unwrap().size, RBig::from(1000));
        assert_eq!(resolve("cm^2").unwrap(), resolve("square centimeters").unwrap());
        assert_eq!(resolve("miles per hour").unwrap(), resolve("mph").unwrap());
        assert!(!resolve("dollars").unwrap().comparable(&resolve("euros").unwrap()));
        assert_eq!(resolve("apples"), None);
        assert_eq!(resolve(""), None);
    }
}
