//! Closures as reward functions.

use crate::input::RewardInput;
use crate::reward::{RewardFault, RewardFn, Score};

/// What a closure may give for a completion: a number, `None` to abstain, a [`Score`], or a `Result` of these.
pub trait IntoScore {
    /// The score, or the fault that prevents it.
    ///
    /// # Errors
    /// The closure's own.
    fn into_score(self) -> Result<Score, RewardFault>;
}

impl IntoScore for Score {
    fn into_score(self) -> Result<Score, RewardFault> {
        Ok(self)
    }
}

impl IntoScore for f64 {
    fn into_score(self) -> Result<Score, RewardFault> {
        Ok(Score::value(self))
    }
}

impl IntoScore for Option<f64> {
    fn into_score(self) -> Result<Score, RewardFault> {
        Ok(Score { value: self, ..Score::default() })
    }
}

impl<S: IntoScore, E: Into<RewardFault>> IntoScore for Result<S, E> {
    fn into_score(self) -> Result<Score, RewardFault> {
        self.map_err(Into::into)?.into_score()
    }
}

/// What a closure says about itself.
#[derive(Clone, Copy, Default)]
struct Use {
    needs_answer: bool,
    judges: bool,
    waits: bool,
}

/// A closure that scores one completion at a time.
///
/// # Example
/// ```
/// use dapo_reward::{RewardInput, RewardSum, RewardTerm, SampleReward};
///
/// # fn main() -> Result<(), dapo_reward::RewardError> {
/// let polite = SampleReward::new("polite", |input| if input.completion.contains("please") { 1.0 } else { 0.0 });
/// let number = SampleReward::new("number", |input| input.completion.trim().parse::<f64>());
/// let sum = RewardSum::of(vec![RewardTerm::new(1.0, polite), RewardTerm::new(0.5, number)])?;
/// assert_eq!(sum.score(&RewardInput::new("", "7", ""))?.total, Some(3.5));
/// let error = sum.score(&RewardInput::new("", "yes, please", "")).unwrap_err();
/// assert_eq!(error.to_string(), "reward \"number\" failed: invalid float literal");
/// # Ok(())
/// # }
/// ```
pub struct SampleReward<F> {
    name: String,
    use_of: Use,
    score: F,
}

impl<S: IntoScore, F: Fn(&RewardInput<'_>) -> S + Send + Sync> SampleReward<F> {
    /// A reward of this name.
    pub fn new(name: impl Into<String>, score: F) -> Self {
        Self { name: name.into(), use_of: Use::default(), score }
    }

    /// Says that scores tell which completions are correct ([`RewardFn::judges`]).
    #[must_use]
    pub fn judging(mut self) -> Self {
        self.use_of.judges = true;
        self
    }

    /// Says that completions are compared with a gold answer ([`RewardFn::needs_answer`]).
    #[must_use]
    pub fn needing_answer(mut self) -> Self {
        self.use_of.needs_answer = true;
        self
    }

    /// Says that scoring waits for somebody else ([`RewardFn::waits`]).
    #[must_use]
    pub fn waiting(mut self) -> Self {
        self.use_of.waits = true;
        self
    }
}

impl<S: IntoScore, F: Fn(&RewardInput<'_>) -> S + Send + Sync> RewardFn for SampleReward<F> {
    fn name(&self) -> &str {
        &self.name
    }
    fn needs_answer(&self) -> bool {
        self.use_of.needs_answer
    }
    fn judges(&self) -> bool {
        self.use_of.judges
    }
    fn waits(&self) -> bool {
        self.use_of.waits
    }
    fn score(&self, input: &RewardInput<'_>) -> Result<Score, RewardFault> {
        (self.score)(input).into_score()
    }
}

/// A closure that scores a whole group, for rewards that compare its completions.
///
/// # Example
/// ```
/// use dapo_reward::{GroupReward, RewardInput, RewardSum, RewardTerm};
///
/// # fn main() -> Result<(), dapo_reward::RewardError> {
/// // 1 for the shortest completion of a group, 0 for the others.
/// let shortest = GroupReward::new("shortest", |group| {
///     let least = group.iter().map(|input| input.completion.len()).min();
///     group.iter().map(|input| if Some(input.completion.len()) == least { 1.0 } else { 0.0 }).collect::<Vec<_>>()
/// });
/// let sum = RewardSum::of(vec![RewardTerm::new(1.0, shortest)])?;
/// let input = |draw, sample, text| RewardInput::new("", text, "").with_place(draw, sample, 1);
/// let rewards = sum.score_batch(&[input(0, 0, "ab"), input(0, 1, "a"), input(1, 0, "abc"), input(1, 1, "abcd")])?;
/// let totals: Vec<_> = rewards.iter().map(|reward| reward.total).collect();
/// assert_eq!(totals, [Some(0.0), Some(1.0), Some(1.0), Some(0.0)]);
/// # Ok(())
/// # }
/// ```
pub struct GroupReward<F> {
    name: String,
    use_of: Use,
    score: F,
}

impl<S: IntoScore, F: Fn(&[RewardInput<'_>]) -> Vec<S> + Send + Sync> GroupReward<F> {
    /// A reward of this name.
    pub fn new(name: impl Into<String>, score: F) -> Self {
        Self { name: name.into(), use_of: Use::default(), score }
    }

    /// Says that scores tell which completions are correct ([`RewardFn::judges`]).
    #[must_use]
    pub fn judging(mut self) -> Self {
        self.use_of.judges = true;
        self
    }

    /// Says that completions are compared with a gold answer ([`RewardFn::needs_answer`]).
    #[must_use]
    pub fn needing_answer(mut self) -> Self {
        self.use_of.needs_answer = true;
        self
    }

    /// Says that scoring waits for somebody else ([`RewardFn::waits`]).
    #[must_use]
    pub fn waiting(mut self) -> Self {
        self.use_of.waits = true;
        self
    }
}

impl<S: IntoScore, F: Fn(&[RewardInput<'_>]) -> Vec<S> + Send + Sync> RewardFn for GroupReward<F> {
    fn name(&self) -> &str {
        &self.name
    }
    fn needs_answer(&self) -> bool {
        self.use_of.needs_answer
    }
    fn judges(&self) -> bool {
        self.use_of.judges
    }
    fn waits(&self) -> bool {
        self.use_of.waits
    }
    /// A group of one.
    fn score(&self, input: &RewardInput<'_>) -> Result<Score, RewardFault> {
        self.score_group(std::slice::from_ref(input))?.pop().ok_or_else(|| "0 results for 1 completion".into())
    }
    fn score_group(&self, group: &[RewardInput<'_>]) -> Result<Vec<Score>, RewardFault> {
        (self.score)(group).into_iter().map(S::into_score).collect()
    }
}
