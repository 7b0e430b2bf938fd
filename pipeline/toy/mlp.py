"""Multilayer perceptron of the toy experiments (arXiv 1907.05600, appendix B.1)."""

from torch import Tensor, nn

from pipeline.ncsn.score import match


class MLP(nn.Module):
    """Three linear layers with softplus between, divided by sigma (sigma = 1: the plain network).

    Unlike the image networks it takes x as it is, in any unit.
    """

    def __init__(self, *, dim: int, width: int) -> None:
        """
        Args:
            dim: the number of values of a point.
            width: hidden units, 128 in the paper.
        """
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(dim, width),
            nn.Softplus(),
            nn.Linear(width, width),
            nn.Softplus(),
            nn.Linear(width, dim),
        )

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        """The score of points, (B, *shape) with `dim` values each, at sigma, () or (B,)."""
        h: Tensor = self.layers(x.flatten(1))
        return h.view_as(x) / match(sigma, x)
