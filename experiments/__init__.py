"""Research on the policy, and the experiment that the project came from; nothing that ships depends on it."""
