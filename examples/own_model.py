"""A model of one's own, fitted in one pass: a von Mises-Fisher law by its mean vector (Banerjee et al. 2005)."""

import rsgm
from rsgm.distributions import VonMisesFisher
from rsgm.likelihood import LogProb


class OneDirection(rsgm.GenerativeModel):
    def __init__(self, manifold: rsgm.Manifold) -> None:
        super().__init__(manifold)
        self.register_buffer("mean", manifold.origin(*manifold.shape).double())  # kept by a checkpoint

    def fit_points(self, train, val, seed=0, weights=None) -> None:
        self.mean.copy_(train.double().mean(0))

    def law(self) -> VonMisesFisher:
        r = self.mean.norm()
        return VonMisesFisher(self.manifold, self.mean / r, r * (3 - r**2) / (1 - r**2))

    def draw(self, n, context, generator):
        return self.law().draw(n, generator).float()

    def likelihood(self, x, context=None) -> LogProb:
        return LogProb(self.law().log_prob(self.manifold.projx(x.double())), nfe=0.0)


truth = VonMisesFisher(rsgm.Sphere(2), rsgm.Sphere(2).origin(3), 20.0)
model = rsgm.fit(OneDirection(rsgm.Sphere(2)), truth.sample((500,)))
print(f"concentration {model.law().concentration:.1f}, log-density {model.log_prob(truth.sample((500,))).mean():.2f}")
