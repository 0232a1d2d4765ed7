"""CARE: class attention to regions of the lesion (Zhuang et al., MIDL 2019).

Stage 1 learns from the classification loss alone; stage 2 adds the attention loss, whose terms are
in training.attention; other methods can have it on top as well. Also the method of every run that
names no other, with or without boxes.
"""

from torch import Tensor

from training.data.dataset import Batch
from training.methods.method import Method, classification_loss


class Care(Method):
    """The network, its classification loss, and the attention loss where the stage has one."""

    parts = ("loss", "l_c", "l_in", "l_out")

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """L = (1 - alpha) L_c + alpha L_a, and what it is made of."""
        activations = self.network.activations(batch.images)
        logits = self.network.classify(activations).logits
        l_c = classification_loss(self.classify, logits, batch, self.processes)
        return {"l_c": l_c} | self.with_attention(batch, activations, l_c)
