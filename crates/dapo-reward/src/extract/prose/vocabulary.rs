//! Words that tell what a sentence says about the value in it; lists are separated by spaces.

/// Whether a list holds a word, in any case.
pub(super) fn holds(list: &str, word: &str) -> bool {
    list.split(' ').any(|known| known.eq_ignore_ascii_case(word))
}

/// Words that leave open, deny or change what is said.
pub(super) const HEDGES: &str = "or not nor repeated excluded ignored removed omitted neither either between least most less more greater fewer lower higher larger smaller above below \
    under over than except plus minus unless without cannot never maybe perhaps possibly probably might may could \
    but however wait wrong incorrect instead rather unknown unsure undefined impossible undetermined indeterminate \
    twice double triple multiplied divided times until vs versus excluding nothing exceeds exceed almost nearly \
    false mod modulo rejected extraneous unlikely off short no from through up down guess guessed initially originally previously half third \
    quarter";

/// Words right after a value that make another value of it.
pub(super) const CHANGES: &str = "hundred hundreds thousand thousands million millions billion billions trillion dozen dozens squared cubed \
    factorial halves thirds quarters fourths fifths sixths eighths tenths hundredths thousandths percent choose to \
    lakh crore fold tens trillions doubled tripled halved overdrawn k bn is was are were would will can should has had does did seems looks degrees degree pm am out";

/// Words anywhere behind a value that add to it.
pub(super) const NUMBERS: &str = "one two three four five six seven eight nine ten half halves third thirds quarter quarters fourths fifths \
    sixths eighths tenths hundred thousand million billion point";

/// Words right before a formula that say that it is not the value.
pub(super) const PREPOSITIONS: &str = "after before by to for within at from with on against toward towards beyond past into onto via as near of than \
    until per through in outside inside like about";

/// Words before a value that make another value of it.
pub(super) const OPERATIONS: &str = "root roots square cube negative opposite reciprocal inverse sum difference product quotient power derivative \
    integral logarithm log complement conjugate multiple multiples all any every no none ratio percent factorial \
    hundred thousand million billion dozen if when undefined average mean odd loses lost loss owes even where \
    minus only";

/// Words before a value that say nothing about it.
pub(super) const FILLERS: &str = "about approximately approx roughly around exactly precisely simply just therefore thus hence indeed clearly \
    then now also equal equals to given by found be a an the total value number amount result of final correct is \
    are obviously really it so we get there course that point ordered pair interval coordinates vector polynomial \
    integer set function equation fraction definitely again simplified expression answer actually only";
