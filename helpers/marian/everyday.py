"""Two dozen everyday sentences, written for chapter 13, with a translation for each country."""

from __future__ import annotations

_TEXT = """
Where is the bathroom?
Onde é a casa de banho?
Onde fica o banheiro?

I am taking the train to work today.
Hoje vou de comboio para o trabalho.
Hoje vou de trem para o trabalho.

She is reading a book in the garden.
Ela está a ler um livro no jardim.
Ela está lendo um livro no jardim.

Do you want a cup of tea?
Queres uma chávena de chá?
Você quer uma xícara de chá?

My mobile phone is out of battery.
O meu telemóvel está sem bateria.
Meu celular está sem bateria.

The bus is late again.
O autocarro está outra vez atrasado.
O ônibus está atrasado de novo.

We had breakfast at the hotel.
Tomámos o pequeno-almoço no hotel.
Tomamos café da manhã no hotel.

The children are playing in the street.
As crianças estão a brincar na rua.
As crianças estão brincando na rua.

I forgot to call my mother.
Esqueci-me de ligar à minha mãe.
Esqueci de ligar para minha mãe.

It will rain tomorrow morning.
Vai chover amanhã de manhã.
Vai chover amanhã de manhã.

He gave me a present.
Ele deu-me um presente.
Ele me deu um presente.

The team won the game.
A equipa ganhou o jogo.
O time ganhou o jogo.

Can you help me, please?
Pode ajudar-me, por favor?
Você pode me ajudar, por favor?

The fridge is empty.
O frigorífico está vazio.
A geladeira está vazia.

They live in a small house near the sea.
Vivem numa casa pequena perto do mar.
Eles moram em uma casa pequena perto do mar.

I do not remember her name.
Não me lembro do nome dela.
Não me lembro do nome dela.

Put the milk on the table.
Põe o leite na mesa.
Coloque o leite na mesa.

The doctor said that it is nothing serious.
O médico disse que não é nada de grave.
O médico disse que não é nada grave.

We are waiting for the ice cream.
Estamos à espera do gelado.
Estamos esperando o sorvete.

My brother drives a truck.
O meu irmão conduz um camião.
Meu irmão dirige um caminhão.

How much does this shirt cost?
Quanto custa esta camisa?
Quanto custa esta camisa?

The suit fits you well.
O fato fica-te bem.
O terno fica bem em você.

I woke up early and went for a run.
Acordei cedo e fui correr.
Acordei cedo e fui correr.

She asked me if I was hungry.
Ela perguntou-me se eu tinha fome.
Ela me perguntou se eu estava com fome.
"""

# English, European Portuguese, Brazilian Portuguese.
EVERYDAY: list[list[str]] = [
    lines.split("\n") for lines in _TEXT.strip().split("\n\n")
]
