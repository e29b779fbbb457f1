//! The weighted sum of reward functions.

use std::any::Any;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use serde::{Deserialize, Serialize};

use crate::environment::Episodes;
use crate::error::RewardError;
use crate::extract::FoundAnswer;
use crate::input::RewardInput;
use crate::reward::{Component, Reward, RewardFault, RewardFn, Score};
use crate::round::Round;

/// What a component's abstention does to the total of the completion.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum OnAbstain {
    /// The total is `None`: the completion has no place in its group's baseline.
    #[default]
    Drop,
    /// The total is that of the other components, as in TRL. For mixtures of tasks whose rewards judge one task each.
    Ignore,
}

/// One term of a [`RewardSum`].
pub struct RewardTerm {
    /// The weight in the sum. With 0 the component is measured and never changes the total.
    pub weight: f64,
    /// What an abstention does to the total.
    pub on_abstain: OnAbstain,
    /// The reward function.
    pub function: Box<dyn RewardFn>,
}

impl RewardTerm {
    /// A term whose abstentions leave the completion without a total.
    pub fn new(weight: f64, function: impl RewardFn + 'static) -> Self {
        Self { weight, on_abstain: OnAbstain::default(), function: Box::new(function) }
    }

    /// Sets what an abstention does.
    #[must_use]
    pub fn on_abstain(self, on_abstain: OnAbstain) -> Self {
        Self { on_abstain, ..self }
    }
}

impl std::fmt::Debug for RewardTerm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { weight, on_abstain, function } = self;
        f.debug_tuple(function.name()).field(weight).field(on_abstain).finish()
    }
}

/// A weighted sum of reward functions: `R = Σ weight · value`.
///
/// An abstention is not a zero. [`OnAbstain`] says per component whether it leaves the completion without a total or is
/// passed over. A component of weight 0 is measured, and neither its value nor its abstention touches the total.
///
/// One component is the judge of what is correct: the only one that [`judges`](RewardFn::judges), of several the one named
/// `accuracy`, or the one that [`judged_by`](Self::judged_by) names. Without any of these, the first whose score says so.
///
/// # Example
/// ```
/// use dapo_reward::{Accuracy, OnAbstain, RewardInput, RewardSum, RewardTerm, SoftOverlong};
///
/// # fn main() -> Result<(), dapo_reward::RewardError> {
/// let overlong = SoftOverlong::new(100, 20)?;
/// let sum = RewardSum::new(vec![(1.0, Box::new(Accuracy::default())), (1.0, Box::new(overlong))])?;
/// let input = RewardInput::new("1+1?", r"\boxed{2}", "2").with_num_tokens(90);
/// let reward = sum.score(&input)?;
/// assert_eq!(reward.correct, Some(true));
/// assert_eq!(reward.total, Some(0.5)); // +1 for the answer, (100 - 20 - 90) / 20 for the length
///
/// // A gold answer that cannot be read: accuracy abstains, and here the length alone decides.
/// let accuracy = RewardTerm::new(1.0, Accuracy::default()).on_abstain(OnAbstain::Ignore);
/// let sum = RewardSum::of(vec![accuracy, RewardTerm::new(1.0, overlong)])?;
/// assert_eq!(sum.score(&RewardInput::new("1+1?", r"\boxed{2}", r"\frac{").with_num_tokens(90))?.total, Some(-0.5));
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct RewardSum {
    terms: Vec<RewardTerm>,
    /// Place of the term that says which completions are correct. `None`: the first that has something to say does.
    judge: Option<usize>,
}

impl RewardSum {
    /// A sum of `(weight, function)` terms whose abstentions count.
    ///
    /// # Errors
    /// As [`of`](Self::of).
    pub fn new(terms: Vec<(f64, Box<dyn RewardFn>)>) -> Result<Self, RewardError> {
        let term = |(weight, function)| RewardTerm { weight, on_abstain: OnAbstain::default(), function };
        Self::of(terms.into_iter().map(term).collect())
    }

    /// A sum of terms.
    ///
    /// # Errors
    /// [`RewardError::Weight`] for a weight that is not finite, [`RewardError::DuplicateName`] when two functions have one
    /// name, and [`RewardError::NoWeight`] when all weights are 0 or there is no term.
    pub fn of(terms: Vec<RewardTerm>) -> Result<Self, RewardError> {
        for (index, term) in terms.iter().enumerate() {
            let name = term.function.name();
            if !term.weight.is_finite() {
                return Err(RewardError::Weight { component: name.to_owned(), weight: term.weight });
            }
            if terms[..index].iter().any(|earlier| earlier.function.name() == name) {
                return Err(RewardError::DuplicateName { component: name.to_owned() });
            }
        }
        if terms.iter().all(|term| term.weight == 0.0) {
            let components = terms.iter().map(|term| term.function.name().to_owned()).collect();
            return Err(RewardError::NoWeight { components });
        }
        let judges: Vec<usize> = (0..terms.len()).filter(|place| terms[*place].function.judges()).collect();
        let judge = match judges[..] {
            [only] => Some(only),
            _ => judges.into_iter().find(|place| terms[*place].function.name() == "accuracy"),
        };
        Ok(Self { terms, judge })
    }

    /// The same sum with this component as the judge of what is correct.
    ///
    /// # Errors
    /// [`RewardError::Judge`] when no component of this name judges.
    pub fn judged_by(self, name: &str) -> Result<Self, RewardError> {
        let is_it = |term: &RewardTerm| term.function.judges() && term.function.name() == name;
        let judge = self.terms.iter().position(is_it);
        if judge.is_none() {
            let judges = self.terms.iter().filter(|term| term.function.judges());
            let judges = judges.map(|term| term.function.name().to_owned()).collect();
            return Err(RewardError::Judge { name: name.to_owned(), judges });
        }
        Ok(Self { judge, ..self })
    }

    /// The sum with a further term; the judge stays.
    ///
    /// # Errors
    /// As [`of`](Self::of).
    pub fn with(self, term: RewardTerm) -> Result<Self, RewardError> {
        let judge = self.judge.map(|place| self.terms[place].function.name().to_owned());
        let sum = Self::of(self.terms.into_iter().chain([term]).collect())?;
        match judge {
            Some(name) => sum.judged_by(&name),
            None => Ok(sum),
        }
    }

    /// Whether a component says which completions are correct.
    pub fn judges(&self) -> bool {
        self.terms.iter().any(|term| term.function.judges())
    }

    /// The environment whose episodes are scored, where there is one: completions then have several turns.
    pub fn episodes(&self) -> Option<&Episodes> {
        self.terms.iter().find_map(|term| term.function.episodes())
    }

    /// Weight of the component that an environment's episodes score; 0 without an environment.
    pub fn episode_weight(&self) -> f64 {
        self.terms.iter().find(|term| term.function.episodes().is_some()).map_or(0.0, |term| term.weight)
    }

    /// Whether every problem must have a gold answer: a component needs it whose weight is not 0 and whose abstentions count.
    pub fn needs_answer(&self) -> bool {
        let counts = |term: &RewardTerm| term.weight != 0.0 && term.on_abstain == OnAbstain::Drop;
        self.terms.iter().any(|term| counts(term) && term.function.needs_answer())
    }

    /// Whether every component can judge by one of a problem's gold answers, those included that are measured alone.
    pub fn can_read(&self, answers: &[&str]) -> bool {
        self.terms.iter().all(|term| answers.iter().any(|answer| term.function.can_read(answer)))
    }

    /// The sum for problems that have no answer: components that need one and are only measured are left out.
    #[must_use]
    pub fn without_answers(mut self) -> Self {
        let judge = self.judge.map(|place| self.terms[place].function.name().to_owned());
        self.terms.retain(|term| term.weight != 0.0 || !term.function.needs_answer());
        self.judge = judge.and_then(|name| self.terms.iter().position(|term| term.function.name() == name));
        self
    }

    /// The answer that the judge takes from a completion; without a judge, that of the first component that takes one.
    pub fn compared<'a>(&self, input: &RewardInput<'a>) -> Option<FoundAnswer<'a>> {
        match self.judge {
            Some(place) => self.terms[place].function.compared(input),
            None => self.terms.iter().find_map(|term| term.function.compared(input)),
        }
    }

    /// The components' names, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.terms.iter().map(|term| term.function.name())
    }

    /// Scores one completion.
    ///
    /// # Errors
    /// As [`score_batch`](Self::score_batch).
    pub fn score(&self, input: &RewardInput<'_>) -> Result<Reward, RewardError> {
        let scores = self
            .terms
            .iter()
            .map(|term| checked(term, std::slice::from_ref(input), |_| Ok(vec![term.function.score(input)?])))
            .collect::<Result<_, _>>();
        let scores: Vec<Vec<Score>> = scores?;
        Ok(self.combine(scores.into_iter().flatten()))
    }

    /// Scores many completions over rayon, in order; a gold answer that occurs many times is parsed once.
    ///
    /// # Errors
    /// [`RewardError::Failed`], [`RewardError::Panicked`], [`RewardError::Count`], [`RewardError::LogName`] and
    /// [`RewardError::NotFinite`] name the function at fault.
    pub fn score_batch(&self, inputs: &[RewardInput<'_>]) -> Result<Vec<Reward>, RewardError> {
        self.score_rest(inputs, BTreeMap::new())
    }

    /// Places of the components that [wait](RewardFn::waits).
    pub fn waiting(&self) -> Vec<usize> {
        (0..self.terms.len()).filter(|place| self.terms[*place].function.waits()).collect()
    }

    /// Scores some whole groups of a round by the component at a place.
    ///
    /// # Errors
    /// As [`score_batch`](Self::score_batch).
    ///
    /// # Panics
    /// When there is no such place.
    pub fn score_part(&self, place: usize, part: &[RewardInput<'_>], round: &Round) -> Result<Vec<Score>, RewardError> {
        let term = &self.terms[place];
        checked(term, part, |part| term.function.score_part(part, round))
    }

    /// [`score_batch`](Self::score_batch), where the scores of the components at some places are known.
    ///
    /// # Errors
    /// As there.
    pub fn score_rest(
        &self,
        inputs: &[RewardInput<'_>],
        mut known: BTreeMap<usize, Vec<Score>>,
    ) -> Result<Vec<Reward>, RewardError> {
        let score = |(place, term): (usize, &RewardTerm)| match known.remove(&place) {
            Some(scores) => checked(term, inputs, |_| Ok(scores)),
            None => checked(term, inputs, |inputs| term.function.score_batch(inputs)),
        };
        let columns = self.terms.iter().enumerate().map(score).collect::<Result<Vec<_>, _>>()?;
        let mut columns: Vec<_> = columns.into_iter().map(Vec::into_iter).collect();
        Ok(inputs.iter().map(|_| self.combine(columns.iter_mut().filter_map(Iterator::next))).collect())
    }

    fn combine(&self, scores: impl Iterator<Item = Score>) -> Reward {
        let mut reward = Reward { correct: None, components: Vec::with_capacity(self.terms.len()), total: None };
        let (mut sum, mut is_dropped, mut is_valued) = (0.0, false, false);
        for (place, (term, score)) in self.terms.iter().zip(scores).enumerate() {
            let name = term.function.name().to_owned();
            reward.components.push(Component { name, weight: term.weight, value: score.value, log: score.log });
            if self.judge.is_none_or(|judge| judge == place) {
                reward.correct = reward.correct.or(score.correct);
            }
            match score.value {
                _ if term.weight == 0.0 => {}
                Some(value) => (sum, is_valued) = (sum + term.weight * value, true),
                None => is_dropped |= term.on_abstain == OnAbstain::Drop,
            }
        }
        reward.total = (is_valued && !is_dropped).then_some(sum);
        reward
    }
}

/// The name under which metrics have the mean of a component's values.
const MEAN: &str = "mean";

/// What a term's function says about the completions, if it is whole.
fn checked(
    term: &RewardTerm,
    inputs: &[RewardInput<'_>],
    call: impl FnOnce(&[RewardInput<'_>]) -> Result<Vec<Score>, RewardFault>,
) -> Result<Vec<Score>, RewardError> {
    let component = || term.function.name().to_owned();
    // Nothing of the function's state is looked at after a panic.
    let scores = catch_unwind(AssertUnwindSafe(|| call(inputs)))
        .map_err(|panic| RewardError::Panicked { component: component(), message: message(&*panic) })?
        .map_err(|fault| RewardError::Failed { component: component(), reason: fault.to_string() })?;
    if scores.len() != inputs.len() {
        return Err(RewardError::Count { component: component(), got: scores.len(), expected: inputs.len() });
    }
    if scores.iter().any(|score| score.log.contains_key(MEAN)) {
        return Err(RewardError::LogName { component: component(), name: MEAN });
    }
    let not_finite =
        |score: &Score| score.value.iter().chain(score.log.values()).copied().find(|value| !value.is_finite());
    if let Some((input, value)) =
        inputs.iter().zip(&scores).find_map(|(input, score)| Some((input, not_finite(score)?)))
    {
        let (draw, sample) = (input.draw, input.sample);
        return Err(RewardError::NotFinite { component: component(), draw, sample, value });
    }
    Ok(scores)
}

/// The text that a panic was raised with.
fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".to_owned())
}
