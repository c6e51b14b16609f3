"""Exceptions of the shop. Handlers in Go name them: AsyncResult.get() raises these very classes."""


class PaymentDeclined(Exception):
    def __init__(self, order, cents):
        super().__init__(order, cents)
        self.order = order
        self.cents = cents

    def __str__(self):
        return "%s: %d cents declined" % (self.order, self.cents)


class Refused(Exception):
    class Finally(Exception):
        pass
