//! Units of measure: which can be compared, and by what factor.

use dashu_ratio::RBig;

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
        "gallon" | "gal" => kind("gallon", 1, 1),
        "quart" => kind("gallon", 1, 4),
        "pint" => kind("gallon", 1, 8),
        "mg" | "milligram" => of(MASS, 1, 1_000),
        "g" | "克" | "gram" | "gm" => of(MASS, 1, 1),
        "kg" | "千克" | "公斤" | "kilogram" => of(MASS, 1_000, 1),
        "lb" | "lbs" | "pound" => kind("pound", 1, 1),
        "oz" | "ounce" => kind("pound", 1, 16),
        "ms" | "millisecond" => of(TIME, 1, 1_000),
        "s" | "秒" | "sec" | "second" => of(TIME, 1, 1),
        "min" | "分钟" | "minute" => of(TIME, 60, 1),
        "h" | "小时" | "时" | "hr" | "hour" => of(TIME, 3_600, 1),
        "day" | "天" | "日" => of(TIME, 86_400, 1),
        "week" | "周" | "星期" => of(TIME, 604_800, 1),
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
        "newton" | "joule" | "watt" | "volt" | "ohm" | "hertz" | "pascal" | "amp" | "ampere" | "mole" | "kelvin" => {
            Some(Base {
                dimension: NONE,
                kind: ["newton", "joule", "watt", "volt", "ohm", "hertz", "pascal", "amp", "ampere", "mole", "kelvin"]
                    .into_iter()
                    .find(|kind| *kind == name),
                size: (1, 1),
            })
        }
        _ => None,
    }
}

fn lookup(name: &str) -> Option<Base> {
    base(name).or_else(|| base(name.strip_suffix('s')?))
}

/// Whether a lower-case word of two letters or more names a unit of measure or a currency.
pub(crate) fn is_measure(word: &str) -> bool {
    (word.len() >= 2 && word != "in" && lookup(word).is_some()) || matches!(word, "square" | "cubic")
}

/// Resolves a unit phrase such as `square feet`, `cm^2`, `miles per hour`, `m/s`. `None` when a word is not a unit of
/// measure: the phrase then says nothing about the value.
pub(crate) fn resolve(phrase: &str) -> Option<Unit> {
    let mut unit = Unit { dimension: NONE, kind: None, size: RBig::ONE };
    let spaced = phrase.replace('/', " / ").replace(['*', '·', '.', '{', '}', '~', '\\', ','], " ").replace("^ ", "^");
    let spaced = spell_symbols(&spaced).to_lowercase();
    let (mut divide, mut prefix_power, mut any) = (false, 1_i8, false);
    for word in spaced.split_whitespace() {
        match word {
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
        for (total, part) in unit.dimension.iter_mut().zip(base.dimension) {
            *total = total.checked_add(part.checked_mul(power)?)?;
        }
        unit.size *= RBig::from_parts(base.size.0.into(), base.size.1.unsigned_abs().into()).pow(isize::from(power));
        any = true;
    }
    any.then_some(unit)
}

/// Writes out the symbols that are told from other words by their capitals only.
fn spell_symbols(phrase: &str) -> String {
    let words: Vec<&str> = phrase
        .split_whitespace()
        .map(|word| match word {
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
            other => other,
        })
        .collect();
    words.join(" ")
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
