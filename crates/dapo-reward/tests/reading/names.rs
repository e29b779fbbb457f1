//! Names before a value, functions, and equations.

use super::{different, equal};

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
fn solutions_may_be_numbered() {
    equal(&[
        ("x_1=3, x_2=5", r"x=3 \text{ or } x=5"),
        (r"x=3 \text{ or } x=5", "x_1=5, x_2=3"),
        ("3, 5", "x_1=3, x_2=5"),
        ("x_1=3, x_2=5", "x_1=5, x_2=3"),
        ("x_1=x_2=3", "x=3"),
        ("3, 5", r"x_{1}=3,\ x_{2}=5"),
    ]);
    different(&[("x_1=3, x_2=5", r"x=3 \text{ or } x=6"), ("a_1=3, a_2=5", "a_1=5, a_2=3")]);
}

#[test]
fn names_of_many_kinds_are_met() {
    equal(&[
        ("6", r"P(A \cap B) = 6"),
        ("5/8", "P(X_n=4)=5/8"),
        ("6", r"P(X \le 2) = 6"),
        ("6", r"P(\text{red}) = 6"),
        ("6", "P(A^c) = 6"),
        ("6", r"P(\bar{A}) = 6"),
        ("6", r"\prod_{i=1}^{3} i = 6"),
        ("6", r"\min_{x} f(x) = 6"),
        ("6", r"\mathbb{E}[X] = 6"),
        ("6", r"\text{lcm}(2,3)=6"),
        ("6", r"\operatorname{rank}(A) = 6"),
        ("6", r"|\vec{a}| = 6"),
        ("6", "[ABC] = 6"),
        ("6", r"\sigma(5) = 6"),
        ("6", "f(f(2)) = 6"),
        ("6", r"(f\circ g)(2) = 6"),
        ("6", r"\frac{a}{b} = 6"),
        ("6", r"\tan\theta = 6"),
        ("6", r"\overline{AB} = 6"),
        ("6", r"AB = 6 \text{ cm}"),
        ("6", r"\max\{f(x)\} = 6"),
        ("6", r"\sup S = 6"),
        ("6", r"\lim_{n\to\infty} a_n = 6"),
        ("6", r"\iint_D f \, dA = 6"),
        ("6", r"\binom{4}{2}=6"),
        ("6", r"\nabla \cdot F = 6"),
        ("6", "T(n) = 6"),
        ("6", r"\bar{x}=6"),
        ("6", r"x_{\max} = 6"),
        ("6", "y(0) = 6"),
        ("6", "u(1,2)=6"),
        ("6", r"\left|\vec{AB}\right| = 6"),
        ("6", r"\lvert z \rvert = 6"),
        ("6", r"\Vert v\Vert = 6"),
        ("6", r"\left\|v\right\| = 6"),
        ("6", r"\operatorname{Re}(z)=6"),
        ("6", r"\text{ord}_7(3) = 6"),
        ("6", "v_2(64)=6"),
        ("6", r"\mathbf{a}\cdot\mathbf{b} = 6"),
        ("6", r"\frac{d^2y}{dx^2} = 6"),
        ("6", r"\frac{d}{dx} f(x) = 6"),
        ("6", r"\frac{\partial f}{\partial x}(1,2) = 6"),
        ("6", r"S_{\triangle ABC} = 6"),
        ("6", "V = 6"),
        ("6", r"\text{Area of } \triangle ABC = 6"),
        ("6", r"m\angle ABC = 6"),
        ("6", r"\angle ABC = 6"),
        ("6", "x + y = 6"),
        ("6", r"\mathrm{E}(X) = 6"),
        ("6", r"\text{Cov}(X,Y) = 6"),
        ("6", "H(X|Y) = 6"),
        ("6", r"\text{gcd}(a,b) = 6"),
        ("6", r"\text{tr}(A) = 6"),
        ("6", r"\mathrm{tr} A = 6"),
        ("6", r"\ker T = 6"),
        ("6", "Q(2) = 6"),
        ("6", r"\text{Total cost} = \$6"),
        ("6", r"\text{Volume} = 2 \cdot 3 = 6"),
        ("6", "|S| = 6"),
        ("6", "|G:H| = 6"),
        ("6", "[G:H] = 6"),
        ("6", r"\Delta(x) = 6"),
        ("6", "f(1)+f(2)=6"),
        ("6", "f(1)f(2)=6"),
        ("6", "a_1+a_2=6"),
        ("6", "a_1 a_2=6"),
        ("f(x,y)=x+y", "z=x+y"),
        (r"\lim_{x\to0}f(x)=6", r"\lim_{x\to 0} f(x)=6"),
        ("f(2)<f(3)", "f(3)>f(2)"),
    ]);
}

#[test]
fn equations_and_other_names_are_not_met() {
    different(&[
        ("6", r"\prod_{i=1}^{3} i = 7"),
        ("6", r"\text{Volume} = 2 \cdot 4 = 6"),
        ("6", "2x+y=6"),
        ("6", "x^2=6"),
        ("6", "2x=6"),
        ("6", "x^2+y^2=6"),
        ("6", "3x-2y=6"),
        ("0", "x^2+y^2=0"),
        ("0", "xy=0"),
        ("0", "x^2-4=0"),
        ("0", "x-y=0"),
        ("4", "x^2=4"),
        ("1", r"\frac{x^2}{4}+\frac{y^2}{9}=1"),
        ("1", "x^2+y^2=1"),
        ("0", "ax^2+bx+c=0"),
        ("0", "2x-3=0"),
        ("7", "P(A|B)=6"),
        ("-6", "f(x,y)=6"),
        ("P(A)=1/2", "P(B)=1/2"),
        (r"\lim_{x\to0}f(x)=6", r"\lim_{x\to1}f(x)=6"),
        ("f(2)=3", "f(3)=3"),
        ("f(2)<f(3)", "f(3)<f(2)"),
        ("f(2)<f(3)", r"f(2)\le f(3)"),
        ("g(1)=g(2)", "g(1)=g(3)"),
        ("f(1)>0", "f(2)>0"),
        ("f(x)>0", "g(x)>0"),
        ("P(1)<P(2)", "P(3)<P(2)"),
        ("P(1)<P(2)", "P(3)<P(4)"),
        ("a(1)<a(2)", "a(3)<a(4)"),
        ("h(1)<h(2)", "h(3)<h(4)"),
        ("u(2)<u(1)<u(4)", "u(5)<u(1)<u(4)"),
        (r"\phi(2)<\phi(1)", r"\phi(5)<\phi(1)"),
        ("y(1)=y(2)", "y(3)=y(6)"),
        ("f(-1)<f(1)", "f(-2)<f(2)"),
        ("T(1)=2T(2)", "T(3)=2T(6)"),
        ("f(1)+f(2)", "3f"),
        ("f(1)+f(2)", "f(3)"),
        ("f(2)f(3)", "f(6)"),
    ]);
}

#[test]
fn arithmetic_on_a_name_is_no_name() {
    different(&[
        ("6", "2P(A|B) = 6"),
        ("6", r"\frac{1}{2}P(A|B) = 6"),
        ("6", "P(A|B) + 1 = 6"),
        ("6", r"2\int_0^1 f(x)dx = 6"),
        ("6", "1 - P(A|B) = 6"),
        ("6", r"\log P(A|B) = 6"),
        ("6", "x^{P(A|B)} = 6"),
        ("6", "f(x)^2 = 6"),
        ("6", "2f(3) = 6"),
        ("6", r"\sqrt{f(3)} = 6"),
        ("6", "f(3)+1 = 6"),
        ("6", r"f(3) \cdot 2 = 6"),
        ("6", "6 = x + y + 1"),
    ]);
}

#[test]
fn a_chain_that_does_not_hold_is_wrong() {
    different(&[(r"\frac13", r"\frac12=\frac13"), (r"\frac13", r"x=\frac12=\frac13"), ("3", r"x = \frac{13}{4} = 3")]);
}
