"""A calculator: what the model writes between <calc> and </calc> is computed."""

import ast
import operator
import re

OPERATIONS = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv}


def value(node):
    if isinstance(node, ast.Constant) and type(node.value) in (int, float):
        return node.value
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return -value(node.operand)
    if isinstance(node, ast.BinOp) and type(node.op) in OPERATIONS:
        return OPERATIONS[type(node.op)](value(node.left), value(node.right))
    raise ValueError("only numbers, + - * / and parentheses")


def compute(expression):
    try:
        return str(value(ast.parse(expression.strip(), mode="eval").body))
    except (ArithmeticError, MemoryError, RecursionError, SyntaxError, ValueError) as error:
        return f"error: {error}"


class Calculator:
    def reset(self, problem):
        self.answer = problem["answer"]
        return "Compute with <calc>2*(3+4)</calc>. End with: Answer: NUMBER"

    def step(self, text):
        call = re.search(r"<calc>(.*?)</calc>", text, re.DOTALL)
        if call:
            return {"messages": [{"role": "user", "content": compute(call[1])}]}
        correct = text.rsplit("Answer:", 1)[-1].strip() == self.answer
        return {"done": True, "reward": float(correct), "correct": correct}
