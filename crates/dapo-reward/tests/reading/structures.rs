//! Sets within sets, "and" and "or", double signs, functions' arguments, vectors, and notations of numbers.

use super::{different, equal};

#[test]
fn braces_within_braces_count() {
    equal(&[
        (r"\{\{1\},\{2\}\}", r"\{\{2\},\{1\}\}"),
        (r"\emptyset", r"\{\}"),
        (r"\{3\}", "3"),
        (r"\{\emptyset,\{1\}\}", r"\{\{1\},\varnothing\}"),
    ]);
    different(&[
        (r"\emptyset", r"\{\emptyset\}"),
        (r"\{\emptyset\}", r"\emptyset"),
        (r"\{3\}", r"\{\{3\}\}"),
        ("3", r"\{\{3\}\}"),
        (r"\{\{3\}\}", "3"),
        (r"\{1,2\}", r"\{\{1\},\{2\}\}"),
        (r"\{1,2\}", r"\{\{1\},2\}"),
        (r"\{\emptyset,\{1\}\}", r"\{\emptyset,1\}"),
        (r"\{\emptyset,\{1\}\}", r"\{\emptyset,\{1\},1\}"),
    ]);
}

#[test]
fn and_differs_from_or_between_different_things() {
    equal(&[
        (r"a>2 \text{ and } b<3", r"b<3 \text{ and } a>2"),
        ("p=2, q=3", r"p=2 \text{ and } q=3"),
        (r"x=1 \text{ or } x=2", r"x=1 \text{ and } x=2"),
        (r"x=1 \text{ or } x=2", "x_1=1, x_2=2"),
        (r"y=2 \text{ or } y=x+1", "y=2, y=x+1"),
    ]);
    different(&[
        (r"a>2 \text{ and } b<3", r"a>2 \text{ or } b<3"),
        (r"a>2 \text{ or } b<3", r"a>2 \text{ and } b<3"),
        ("p=2, q=3", r"p=2 \text{ or } q=3"),
        ("p=2, q=3", r"p=2 \text{ and } q=4"),
    ]);
}

#[test]
fn several_double_signs_are_independent() {
    equal(&[
        (r"(\pm 2, \pm 3)", "(2,3),(2,-3),(-2,3),(-2,-3)"),
        ("(2,3),(2,-3),(-2,3),(-2,-3)", r"(\pm 2, \pm 3)"),
        (r"(\pm 2, \mp 3)", "(2,-3),(-2,3)"),
        (r"2 \pm \sqrt3", r"2+\sqrt3, 2-\sqrt3"),
        (
            r"\frac{\pm 1 \pm \sqrt5}{2}",
            r"\frac{1+\sqrt5}{2},\frac{1-\sqrt5}{2},\frac{-1+\sqrt5}{2},\frac{-1-\sqrt5}{2}",
        ),
    ]);
    different(&[
        (r"(\pm 2, \pm 3)", "(2,3),(-2,-3)"),
        (r"(\pm 2, \mp 3)", "(2,3),(-2,-3)"),
        (r"(\pm 2, \mp 3)", "(2,3),(2,-3),(-2,3),(-2,-3)"),
        (r"2 \pm \sqrt3", r"2+\sqrt3"),
    ]);
}

#[test]
fn arguments_may_be_renamed_together() {
    equal(&[
        ("f(x)=2x", "f(y)=2y"),
        (r"f(x)=x+\frac1x", r"f(t)=t+\frac1t"),
        ("f(x,y)=x-y", "f(a,b)=a-b"),
        ("f(x)=2x", "f(x)=x+x"),
    ]);
    different(&[
        ("f(x)=2x", "f(y)=2x"),
        (r"f(x)=x+\frac1x", r"f(y)=x+\frac1x"),
        ("f(x)=x+2y", "f(y)=y+2x"),
        ("f(x,y)=x-y", "f(a,b)=b-a"),
    ]);
}

#[test]
fn a_vector_may_be_written_in_a_column() {
    equal(&[
        (r"\begin{pmatrix}2\\-1\\5\end{pmatrix}", "(2,-1,5)"),
        (r"\begin{pmatrix}2\\-1\\5\end{pmatrix}", r"\langle 2,-1,5\rangle"),
        (r"\langle 2,-1,5\rangle", r"\begin{pmatrix}2\\-1\\5\end{pmatrix}"),
    ]);
    different(&[
        (r"\begin{pmatrix}2\\-1\\5\end{pmatrix}", "(2,1,5)"),
        (r"\begin{pmatrix}2\\-1\\5\end{pmatrix}", "(2,-1)"),
        (r"\begin{pmatrix}1&2\\3&4\end{pmatrix}", "(1,2,3,4)"),
        (r"\begin{pmatrix}2\\5\end{pmatrix}", "[2,5]"),
        (r"\begin{pmatrix}2\\5\end{pmatrix}", r"\{2,5\}"),
    ]);
}

#[test]
fn numbers_side_by_side_in_known_notations() {
    equal(&[
        (r"\binom{10}{3}", r"\frac{10!}{3!7!}"),
        (r"\frac{8!}{2!\,2!}", "10080"),
        (r"\log_2 12", r"\log_4 144"),
        (r"12.5\%", r"12\frac12\%"),
        (r"\mathbb{R}\setminus\{0,1\}", r"x\ne0,1"),
    ]);
    different(&[
        (r"\binom{10}{3}", r"\frac{10!}{3!6!}"),
        (r"\log_2 12", r"\log_4 143"),
        (r"12.5\%", r"12\frac13\%"),
        (r"\mathbb{R}\setminus\{0,1\}", r"x\ne0,2"),
        (r"\mathbb{R}\setminus\{0,1\}", r"x\ne0"),
    ]);
}
