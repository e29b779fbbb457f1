use crate::is_equivalent;

fn equal(pairs: &[(&str, &str)]) {
    for (gold, pred) in pairs {
        assert!(is_equivalent(gold, pred), "{gold}  ==  {pred}");
        assert!(is_equivalent(pred, gold), "{pred}  ==  {gold}");
    }
}

fn different(pairs: &[(&str, &str)]) {
    for (gold, pred) in pairs {
        assert!(!is_equivalent(gold, pred), "{gold}  !=  {pred}");
        assert!(!is_equivalent(pred, gold), "{pred}  !=  {gold}");
    }
}

#[test]
fn numbers() {
    equal(&[
        ("1/2", "0.5"),
        ("\\frac12", "\\dfrac{3}{6}"),
        ("2^{10}", "1024"),
        ("1{,}000", "1000"),
        ("5!", "120"),
        ("\\binom{5}{2}", "10"),
        ("0.\\overline{3}", "\\frac13"),
        ("101_2", "5"),
        ("3\\frac12", "7/2"),
        ("1.5\\times10^3", "1500"),
        ("\\log_2 8", "3"),
        ("-\\frac{1}{2}", "\\frac{-1}{2}"),
        ("3.5 million", "3500000"),
        ("10\\%", "0.1"),
        ("10\\%", "10"),
    ]);
    different(&[("2^{-99}", "2^{-98}"), ("5", "5.001"), ("10\\%", "0.1\\%"), ("1/3", "0.334")]);
}
