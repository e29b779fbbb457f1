//! What is read and what is not, kind by kind: pairs (gold, prediction) that are equal, and near misses that are not.

use dapo_reward::is_equivalent;

fn equal(pairs: &[(&str, &str)]) {
    for (gold, prediction) in pairs {
        assert!(is_equivalent(gold, prediction), "{gold}  ==  {prediction}");
    }
}

fn different(pairs: &[(&str, &str)]) {
    for (gold, prediction) in pairs {
        assert!(!is_equivalent(gold, prediction), "{gold}  !=  {prediction}");
    }
}

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
fn functions_without_a_definition_are_opaque() {
    equal(&[
        ("f(2) < f(1) < f(4)", "f(2)<f(1)<f(4)"),
        ("f(2) < f(1) < f(4)", "f(4)>f(1)>f(2)"),
        ("f(a+b)=f(a)+f(b)", "f(b+a)=f(b)+f(a)"),
        ("f(1+m)", "f+fm"),
        ("f(x)=2x", "y=2x"),
        ("g(x)=2x", "f(x)=2x"),
        ("f^{-1}(x)=x+1", "y=x+1"),
        ("x^{-1}(y+1)", r"\frac{y+1}{x}"),
    ]);
    different(&[
        ("f(2) < f(1) < f(4)", "f(5) < f(1) < f(4)"),
        ("f(a+b)=f(a)+f(b)", "f(2a)=2f(a)"),
        ("f(1)=2", "f(3)=2"),
        ("f^{-1}(3)", r"\frac{3}{f}"),
    ]);
}

#[test]
fn a_name_is_met_by_its_value_and_an_equation_is_not() {
    equal(&[
        ("7", "m+n=7"),
        ("6", "AB^2=6"),
        ("6", "P(A|B)=6"),
        ("6", "P(X=2)=6"),
        ("6", "f(x,y)=6"),
        ("x+y", "f(x,y)=x+y"),
        ("6", r"n(A\cup B)=6"),
        ("6", r"\lim_{x\to 0} f(x) = 6"),
        ("6", r"\sum a_i=6"),
        ("6", r"\int_0^1 f(x)dx=6"),
        ("6", r"\max f = 6"),
        ("6", r"\|\mathbf v\|=6"),
        ("6", r"\frac{dy}{dx}=6"),
        ("6", r"\frac{\partial f}{\partial x} = 6"),
        ("6", r"\text{Var}(X)=6"),
        ("6", "f^{-1}(3)=6"),
        ("6", "f'(2)=6"),
        ("6", r"\varphi(7)=6"),
        ("6", r"\dim V=6"),
        ("6", r"\#S = 6"),
        ("6", "d(P,Q)=6"),
        ("6", r"\arg z = 6"),
        ("6", r"\det(A)=6"),
        (r"P(\{2\})=1/6", "1/6"),
        (r"P(A|B)=\frac13", "P(A | B) = 1/3"),
        ("x=11", "x = 5 + 5 + 1 = 11"),
        ("(n-2) 2^{n}+1", "(n-2)2^n+1"),
        (r"n \cdot 2^{n-1}", "n2^{n-1}"),
        ("3.5", r"|\vec a - \vec b| = 3.5"),
        (r"\frac{3}{5}", r"\sin A=\frac35"),
    ]);
    different(&[
        ("0", "ax+by=0"),
        ("0", "x^2-5x+6=0"),
        ("6", "x^2-5x=6"),
        ("0", "x+y=0"),
        ("f(x,y)=x+y", "f(x,y)=x-y"),
        (r"P(A|B)=\frac13", r"P(B|A)=\frac13"),
        ("6", "P(A|B)=7"),
        ("6", r"\sum a_i=7"),
        ("x=11", "x = 5 + 5 + 2 = 11"),
        ("12", "x = 5 + 5 + 1 = 12"),
        (r"n \cdot 2^{n-1}", "n2^{n-2}"),
        ("0", r"\sin x=0"),
    ]);
}

#[test]
fn a_numeral_may_follow_a_factor() {
    equal(&[
        (r"\frac12 3^n", r"\frac{3^n}{2}"),
        ("x 3^{x^2}", r"x\cdot 3^{x^2}"),
        (r"200\left(\cos \left(\frac{\pi}{6}\right)\right) 20=3464.1", "3464.1"),
        ("f(1+m)", "f+fm"),
        (r"2^3\cdot 3^2", "2^3 3^2"),
        ("f(x)=2x", "y=2x"),
        ("f(x)=2x", "2x"),
        ("g(x)=2x", "f(x)=2x"),
        ("f^{-1}(x)=x+1", "f^{-1}(x)=1+x"),
    ]);
    different(&[("6", "2 3"), ("23", "2 3"), ("f(1)=2", "f(3)=2")]);
}
