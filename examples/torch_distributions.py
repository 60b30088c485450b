"""A model as a distribution of torch: a mixture of two, and a plate of independent ones."""

from functools import partial

import torch
from torch.distributions import Categorical, Independent, MixtureSameFamily

import rsgm
from rsgm.networks import MLP

model = rsgm.RSGM(rsgm.Sphere(2), network=partial(MLP, context_features=2))
laws = model.distribution(torch.eye(2))  # one law for each row of the context
mixture = MixtureSameFamily(Categorical(torch.tensor([0.3, 0.7])), laws)
x = mixture.sample((5,))
print(mixture.log_prob(x), laws.support)
plate = Independent(laws.expand((4, 2)), 2)
print(plate.log_prob(plate.sample()))
